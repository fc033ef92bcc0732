"""From the plant's report and a forecast of the net load to the purchase and the rations, or why there are none.

Nothing is decided on guessed numbers: without a present report of the plant there is no purchase and no new ration, and
the reason is kept in words.

The path that is planned for is not the expected one. Its sum from now to any later time is a quantile of the need up to
then: a shortfall in dear hours costs much, energy to spare almost nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.calendar import DAY_QUARTERS, to_local, to_utc
from commonwatt.model.text import moment
from commonwatt.model.units import QUARTER_S, SLOTS, EpochSeconds, MicrogridId, MilliwattHours, Quarter
from commonwatt.protocol.plant_messages import PlantQuarter, PlantReport
from utility.supply.buying import MAX_HORIZON, BuyFacts, PlantSituation, Policy, Purchase, Storm
from utility.supply.rationing import RATION_S, Ration, RationedMicrogrid, Rationing

ERROR_DAYS = 28  # days whose errors of the forecast make the quantile
FADE = 0.95  # the part of the last quarter-hour's error that is left a quarter-hour later
LIKE_DAYS = 14  # days back in which a like day is looked for

Energies = NDArray[np.int64]


def days_before(
    now: EpochSeconds, horizon: int, days: int, history: Energies, zone: ZoneInfo, *, over: int = 0
) -> Energies:
    """Return the net load at the same local times on earlier days.

    Args:
        now: The start of the first quarter.
        horizon: Quarters of each row, at most two days.
        days: Rows: row d is d days before, from 0 on. Times that are not over repeat the last day's.
        history: The net load of each quarter before ``now``, and of those that are over, oldest first; not empty. What
            it lacks repeats its first day.
        zone: The zone of local times.
        over: Quarters from ``now`` on that are over.
    """
    first = now // QUARTER_S
    local = to_local(first + np.arange(horizon, dtype=np.int64), zone)
    back = local[None, :] - DAY_QUARTERS * np.arange(days, dtype=np.int64)[:, None]
    index = to_utc(back, zone) - first - over
    # An hour that the clock skipped, or a time still to come, is that of the day before; so is what lacks in the past.
    for _ in range(3):
        index = np.where(index >= 0, index - DAY_QUARTERS, index)
    short = -len(history) - index
    index = np.where(short > 0, index + DAY_QUARTERS * -(-short // DAY_QUARTERS), index)
    return history[np.clip(index, -len(history), -1)]


def like_day(day: date, before: int) -> date:
    """Return the like day number ``before`` (from 1) before a day: a weekday for a weekday, else a weekend's day."""
    like, found = day, 0
    while found < before:
        like -= timedelta(days=1)
        found += (like.weekday() >= 5) == (day.weekday() >= 5)
    return like


def like_hours(now: EpochSeconds, zone: ZoneInfo) -> list[EpochSeconds]:
    """Return the starts of the same local hour on earlier like days, the last day first (A8).

    A day on which the clock skipped the hour is left out.
    """
    local = datetime.fromtimestamp(now, zone)
    starts = []
    for before in range(1, LIKE_DAYS):
        day = like_day(local.date(), before)
        if (local.date() - day).days > LIKE_DAYS:
            break
        start = datetime(day.year, day.month, day.day, local.hour, tzinfo=zone)
        time = int(start.timestamp())
        if datetime.fromtimestamp(time, zone).hour == local.hour:
            starts.append(time)
    return starts


def planned_need(
    now: EpochSeconds, edges: NDArray[np.int64], history: Energies, zone: ZoneInfo, permille: int
) -> Energies:
    """Return the net load to plan for in each step of a horizon.

    The sum from ``now`` to the end of any step is yesterday's at these local times, plus a quantile of the error that
    the same forecast had for this sum on each of the last 28 days.

    Args:
        now: The start of the first step.
        edges: The begins of the steps and the end of the last, in quarters from ``now``, from 0 to at most 192.
        history: The net load of each quarter before ``now``, oldest first; not empty.
        zone: The zone of local times.
        permille: The quantile, thousandths.
    """
    horizon = int(edges[-1])
    # The first column is the last quarter that is over.
    rows = days_before(now - QUARTER_S, horizon + 1, ERROR_DAYS + 4, history, zone, over=1)
    first = min(horizon, DAY_QUARTERS) + 1
    # The second day was forecast from the same day as the first: its row is one further back.
    guess = np.concatenate([rows[3:-1, :first], rows[4:, first:]], axis=1)
    errors = _sums(_left(rows[2 : 2 + ERROR_DAYS] - guess), edges)
    place = min(ERROR_DAYS - 1, ERROR_DAYS * permille // 1000)
    today = rows[1:2, 1:] + _fading(rows[:1] - rows[1:2], horizon)
    sums = _sums(today, edges)[0] + np.partition(errors, place, axis=0)[place]
    # For one quarter, the last one and its change on other days are closer than yesterday. What is bought too much is
    # stored, or not delivered if there is no room; what is bought too little goes through the battery, with its loss.
    change = (rows[2 : 2 + ERROR_DAYS, 1] - rows[2 : 2 + ERROR_DAYS, 0]).max()
    sums[0] = max(sums[0], float(rows[0, 0] + change))
    return np.asarray(np.diff(np.rint(sums).astype(np.int64), prepend=0), np.int64)


def _fading(errors: Energies, horizon: int) -> NDArray[np.float64]:
    """Return what the error of the first quarter of each row adds to the forecast of those that follow."""
    fades = FADE ** np.arange(1, horizon + 1)
    return np.asarray(errors[:, :1] * fades)


def _left(errors: Energies) -> NDArray[np.float64]:
    """Return the errors that are left if the error of the first quarter is added, fading."""
    return np.asarray(errors[:, 1:] - _fading(errors, errors.shape[1] - 1))


def _sums(rows: NDArray[np.float64], edges: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the sums from the begin of each row to the end of each step."""
    sums = np.concatenate([np.zeros((len(rows), 1)), np.cumsum(rows, axis=1)], axis=1)
    return sums[:, edges[1:]]


STALE_S = 180  # seconds from its receipt after which nothing is bought on a report of the plant: three of its periods
AHEAD_S = 60  # most seconds by which the plant's clock may be ahead
LATE_S = 120  # seconds after a quarter-hour's start from which only the part for the rest of it is bought
HISTORY_QUARTERS = 33 * DAY_QUARTERS  # quarters of net load that a forecast uses

_BASE_PRICE = 1000


@dataclass(frozen=True, kw_only=True, eq=False)
class PlantFacts:
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


def unknown(facts: PlantFacts, stale_s: int = RATION_S) -> str | None:
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


def unplanned(facts: PlantFacts) -> str | None:
    """Return why the purchase of the present quarter-hour can't be planned now; ``None``: it can."""
    if (why := unknown(facts, STALE_S)) is not None or facts.seen is None:
        return why
    if facts.seen[1].time < facts.quarter * QUARTER_S:
        return "the plant's first report of this quarter-hour has not come yet"
    return None


def plant_of(facts: PlantFacts, report: PlantReport) -> PlantSituation:
    """Return the plant of a report."""
    return PlantSituation(
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


def situation_of(facts: PlantFacts) -> BuyFacts:
    """Return the situation to buy in; only if ``unplanned`` returns ``None``."""
    assert facts.seen is not None
    report = facts.seen[1]
    return BuyFacts(
        now=facts.quarter * QUARTER_S,
        plant=plant_of(facts, report),
        prices=prices_from(report, facts.quarter),
        credit=_BASE_PRICE,
        history=history_of(facts.quarters, facts.quarter),
        zone=facts.zone,
        peak_hours=facts.peak_hours,
        storm=facts.storm,
    )


def planned(policy: Policy, facts: PlantFacts, situation: BuyFacts) -> Purchase:
    """Return the purchase for what is left of the present quarter-hour."""
    purchase = policy(situation)
    passed = facts.now - situation.now
    if passed <= LATE_S:
        return purchase
    left = QUARTER_S - passed
    reason = f"{purchase.reason}; for the last {left // 60} min of the quarter-hour"
    return Purchase(energy=purchase.energy * left // QUARTER_S, reason=reason)


def inputs_of(facts: PlantFacts, situation: BuyFacts) -> dict[str, object]:
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


def rations_of(
    rule: Rationing, facts: PlantFacts, members: Sequence[RationedMicrogrid]
) -> Mapping[MicrogridId, Ration]:
    """Return each microgrid's ration; only if ``unknown`` returns ``None``."""
    assert facts.seen is not None
    report = facts.seen[1]
    spared_w = {member.microgrid: member.spared_w for member in members}
    return {
        name: one if (limit := one.import_limit_w) is None else replace(one, import_limit_w=max(limit, spared_w[name]))
        for name, one in rule(report.supply, members, plant_of(facts, report)).items()
    }
