"""From what the plant reports to a decision: the purchase of a quarter-hour, and the rations; or why there is none.

Nothing is decided on guessed numbers: without a present report of the plant there is no purchase and no new ration, and
the reason is kept in words.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.time.local_time import DAY_QUARTERS
from commonwatt.model.units import QUARTER_S, SLOTS, EpochSeconds, MicrogridId, MilliwattHours, Quarter
from commonwatt.model.words import moment
from commonwatt.protocol.plant_messages import PlantQuarter, PlantReport
from utility.supply.announcing import RATION_S
from utility.supply.buying.situation import MAX_HORIZON, Policy, Purchase, Situation, Storm
from utility.supply.plant import Plant
from utility.supply.rationing import Member, Ration, Rationing

STALE_S = 180  # seconds from its receipt after which nothing is bought on a report of the plant: three of its periods
AHEAD_S = 60  # most seconds by which the plant's clock may be ahead
LATE_S = 120  # seconds after a quarter-hour's start from which only the part for the rest of it is bought
HISTORY_QUARTERS = 33 * DAY_QUARTERS  # quarters of net load that a forecast uses

_BASE_PRICE = 1000


@dataclass(frozen=True, kw_only=True, eq=False)
class Facts:
    """What the utility knows of the plant."""

    now: EpochSeconds  # the time
    is_trusted: bool  # whether the utility's clock is synchronised
    # The time of receipt and the plant's last report; ``None``: it has never reported.
    seen: tuple[EpochSeconds, PlantReport] | None
    quarters: Sequence[PlantQuarter]  # what the plant measured in finished quarters, oldest first
    zone: ZoneInfo  # the town's time zone
    peak_hours: tuple[int, ...]  # the local hours of the peak price by the town file, 0 to 23
    reserve_permille: int  # level that is kept, thousandths of the capacity
    storm: Storm | None = None  # a storm that an operator has announced; ``None``: none

    @property
    def quarter(self) -> Quarter:
        """The present quarter-hour."""
        return self.now // QUARTER_S

    @property
    def reserve(self) -> MilliwattHours:
        """The level that is kept, milliwatt-hours; 0 without a report."""
        return 0 if self.seen is None else self.seen[1].capacity_mwh * self.reserve_permille // 1000


def unknown(facts: Facts, stale_s: int = RATION_S) -> str | None:
    """Return why the plant's state is not known now; ``None``: it is known.

    A report counts for ``stale_s``, for rations as long as a ration holds: a late one is better than none.
    """
    if not facts.is_trusted:
        return "the utility's clock is not synchronised"
    if facts.seen is None:
        return "no plant has reported yet"
    received, report = facts.seen
    # A report may come after the job has begun, that is, after ``now``.
    if abs(facts.now - received) > stale_s:
        return f"the plant's last report came at {moment(received)}"
    if report.time > max(facts.now, received) + AHEAD_S:
        return f"the plant's clock is more than {AHEAD_S} s ahead of the utility's"
    if facts.now - report.time > stale_s:
        return f"the plant's last report is of {moment(report.time)} by its own clock"
    # A little outside is a tolerance of measurement.
    if not -report.capacity_mwh // 20 <= report.level_mwh <= report.capacity_mwh * 21 // 20:
        return f"the plant reports a level that can't be: {report.level_mwh} of {report.capacity_mwh} mWh"
    return None


def unplanned(facts: Facts) -> str | None:
    """Return why the purchase of the present quarter-hour can't be planned now; ``None``: it can."""
    if (why := unknown(facts, STALE_S)) is not None or facts.seen is None:
        return why
    if facts.seen[1].time < facts.quarter * QUARTER_S:
        return "the plant's first report of this quarter-hour has not come yet"
    return None


def plant_of(facts: Facts, report: PlantReport) -> Plant:
    """Return the plant of a report."""
    return Plant(
        level=report.level_mwh,
        capacity=report.capacity_mwh,
        floor=0,
        reserve=facts.reserve,
        power_w=report.battery_limit_w,
        loss_permille=report.loss_permille,
        line_w=report.line_w,
    )


def plant_lasts_until(report: PlantReport) -> EpochSeconds | None:
    """Return when the plant's battery is at its reserve (below it: empty) at the last hour's mean.

    ``None``: nothing was used, less than a quarter-hour is known, or it lasts for more than 30 days.
    """
    ends = (((row.quarter + 1) * QUARTER_S, row.level) for row in report.quarters)
    since, level = next((end for end in ends if report.time - end[0] <= 4 * QUARTER_S), (report.time, 0))
    above, used = report.level_mwh - report.keep_mwh, level - report.level_mwh
    if used <= 0 or report.time - since < QUARTER_S:
        return None
    left_s = max(0, above if above > 0 else report.level_mwh) * (report.time - since) // used
    return report.time + left_s if left_s <= 30 * 86_400 else None


def price_at(report: PlantReport, time: EpochSeconds) -> int:
    """Return the announced price at a time, thousandths; before the first one announced, that one."""
    return next((price for since, price in reversed(report.prices) if since <= time), report.prices[0][1])


def prices_from(report: PlantReport, first: Quarter) -> NDArray[np.int64]:
    """Return the price of each quarter from ``first`` on, as far as they are announced; at least one."""
    count = min(MAX_HORIZON, max(1, report.prices_until // QUARTER_S - first))
    times = (first + np.arange(count, dtype=np.int64)) * QUARTER_S
    since = np.array([time for time, _ in report.prices], np.int64)
    prices = np.array([price for _, price in report.prices], np.int64)
    return prices[np.maximum(0, np.searchsorted(since, times, side="right") - 1)]


def history_of(quarters: Sequence[PlantQuarter], before: Quarter) -> NDArray[np.int64]:
    """Return the town's net load in each quarter up to ``before``, oldest first; empty if it is not known.

    A quarter that was not measured whole is that of the day before, or of the day after; where neither is known, the
    history begins after it.
    """
    known = {row.quarter: row.net for row in quarters if row.slots == SLOTS}
    if not known:
        return np.zeros(0, np.int64)
    nets: list[int] = []
    for quarter in range(before - 1, max(min(known), before - HISTORY_QUARTERS) - 1, -1):
        days = (quarter, quarter - DAY_QUARTERS, quarter + DAY_QUARTERS)
        found = next((known[day] for day in days if day in known), None)
        if found is None:
            break
        nets.append(found)
    return np.array(nets[::-1], np.int64)


def situation_of(facts: Facts) -> Situation:
    """Return the situation to buy in; only if ``unplanned`` returns ``None``."""
    assert facts.seen is not None
    report = facts.seen[1]
    return Situation(
        now=facts.quarter * QUARTER_S,
        plant=plant_of(facts, report),
        prices=prices_from(report, facts.quarter),
        credit=_BASE_PRICE,
        history=history_of(facts.quarters, facts.quarter),
        zone=facts.zone,
        peak_hours=facts.peak_hours,
        storm=facts.storm,
    )


def planned(policy: Policy, facts: Facts, situation: Situation) -> Purchase:
    """Return the purchase for what is left of the present quarter-hour."""
    purchase = policy(situation)
    passed = facts.now - situation.now
    if passed <= LATE_S:
        return purchase
    left = QUARTER_S - passed
    reason = f"{purchase.reason}; for the last {left // 60} min of the quarter-hour"
    return Purchase(energy=purchase.energy * left // QUARTER_S, reason=reason)


def inputs_of(facts: Facts, situation: Situation) -> dict[str, object]:
    """Return the facts of a decision, for people."""
    assert facts.seen is not None
    received, report = facts.seen
    return {
        "level": report.level_mwh,
        "capacity": report.capacity_mwh,
        "reserve": facts.reserve,
        "supply": report.supply.value,
        "line_w": report.line_w,
        "prices": len(situation.prices),
        "expected": situation.expected,
        "history": len(situation.history),
        "report_age_s": facts.now - received,
        "storm": None if facts.storm is None else [facts.storm.start, facts.storm.end],
    }


def rations_of(rule: Rationing, facts: Facts, members: Sequence[Member]) -> Mapping[MicrogridId, Ration]:
    """Return each microgrid's ration; only if ``unknown`` returns ``None``."""
    assert facts.seen is not None
    report = facts.seen[1]
    spared_w = {member.microgrid: member.spared_w for member in members}
    return {
        name: one if (limit := one.import_limit_w) is None else replace(one, import_limit_w=max(limit, spared_w[name]))
        for name, one in rule(report.supply, members, plant_of(facts, report)).items()
    }
