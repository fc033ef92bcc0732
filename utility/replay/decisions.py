"""Stored days of the town again, with another policy, batteries, tariff or an outage, beside what was."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import partial
from statistics import median
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from commonwatt.energy.physics.places import blocks_of, places_of
from commonwatt.energy.simulation.figures import Figures
from commonwatt.energy.simulation.simulation import Simulation
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.time.local_calendar import month_of
from commonwatt.settlement.settled import QUARTERS_A_DAY, Quantity, SettledQuarters
from commonwatt.town.changes import changed
from commonwatt.town.conditions import Conditions
from commonwatt.town.scenario import Scenario
from utility.billing.decisions import previewed
from utility.billing.money import dollars
from utility.billing.preview import Change
from utility.billing.run import Progress
from utility.database.database import Database
from utility.replay.rows import AccountRow, LeftOutRow, PlaceRow
from utility.replay.runs import differs_permille, run_day
from utility.replay.store.days import StoredDays, stored_town
from utility.replay.world import STEP_S, StoredWorld, rows_of
from utility.supply.simulated.policies import POLICIES
from utility.tariffs.store.tariffs import published
from utility.tariffs.tariff import Tariff

MOST_ENERGIES = 10**8  # most energies of places and quarter-hours that are in memory: 0.4 GB
NEAR_PERMILLE = 10  # most by which the import and export of a day that counts differ from what was settled
WAS = "as it was"
_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """What a replay found."""

    timezone: str  # the town's
    runs: dict[str, Figures]  # the figures of what was, and of what would be
    tables: dict[str, Sequence[BaseModel]]  # who pays, who goes dark and helps, which days are left out; by title
    near: dict[str, float]  # days that count; their worst and middle difference from what was settled, per cent


def replay(
    database: Database, scenario: Scenario, policy: str, tariff: Tariff | None, default: str, progress: Progress
) -> Replayed:
    """Replay days.

    Args:
        scenario: Its days of UTC, and what happens in them; its hours count from local midnight.
        policy: The name of the policy.
        tariff: A tariff in place of the versions of its name; ``None``: none.
        default: The name of the tariff of accounts without one.
        progress: Called with the days done and all.

    Raises:
        ConfigError: There is no town, policy, microgrid or battery, or there are too many days.
        StoreError: What is stored is damaged.
    """
    first = (scenario.start - _EPOCH).days
    with database.reads.begin() as connection:
        town, has_tariffs = stored_town(connection, first * QUARTERS_A_DAY), bool(published(connection))
    named = dict.fromkeys((name, one.location) for name, grid in town.microgrids.items() for one in places_of(grid))
    row = {place: number for number, place in enumerate(named)}
    most = MOST_ENERGIES // (4 * QUARTERS_A_DAY * len(row))
    if policy not in POLICIES or scenario.days > most:
        why = f"to: at most {most} days of this town at once"
        raise ConfigError(why if policy in POLICIES else f"policy: there are {', '.join(POLICIES)}")
    stored = StoredDays(database, town, row)
    today = stored.day(first)
    plain = Scenario(title=WAS, start=scenario.start, days=scenario.days)
    simulations, zone = [], ZoneInfo(town.table.timezone)
    for one, what, name in ((town, plain, "spec"), (changed(town, scenario), scenario, policy)):
        rows = rows_of(blocks_of(one, one.microgrids.values()), row)
        world = partial(StoredWorld, rows=rows, today=lambda: today.course, levels=today.levels)
        conditions = Conditions(scenario=what, zone=zone, seed=town.table.seed)
        simulations.append((Simulation(one, conditions, POLICIES[name], STEP_S, world), rows))
    more = np.zeros((scenario.days, 4, len(row), QUARTERS_A_DAY), np.int32)
    sums, near, left_out = np.zeros((2, 3, len(row)), np.int64), list[float](), list[LeftOutRow]()
    for number in range(scenario.days):
        today = stored.day(first + number) if number else today
        was, would = (run_day(*each, first + number) for each in simulations)
        off = differs_permille(was, today.settled, stored.owner)
        counts = today.whole & (off <= NEAR_PERMILLE)
        near += off[counts].tolist()
        for at in np.flatnonzero(~counts).tolist():
            why = f"differs by {off[at] / 10:.1f} % from what was settled" if today.whole[at] else "lacks readings"
            day = str(scenario.start + timedelta(days=number))
            left_out.append(LeftOutRow(day=day, microgrid=stored.microgrids[at], why=why))
        more[number] = (would.energies - was.energies) * counts[stored.owner, None]
        sums += np.stack([was.sums, would.sums]) * counts[stored.owner]
        progress(number + 1, scenario.days)
    otherwise = partial(_otherwise, stored, more.transpose(1, 2, 0, 3).reshape(4, len(row), -1), first * QUARTERS_A_DAY)
    months = sorted(
        {month_of((first + number) * QUARTERS_A_DAY, zone) for number in range(scenario.days * has_tariffs)}
    )
    bills = [each for m in months for each in previewed(database, tariff, m, default, otherwise=otherwise)]
    return Replayed(
        timezone=town.table.timezone,
        runs={WAS: simulations[0][0].figures, policy: simulations[1][0].figures},
        tables={
            "who pays": _accounts(bills),
            "who goes dark, who helps": [PlaceRow.of(place, sums[:, :, at].tolist()) for place, at in row.items()],
            "left out": left_out,
        },
        near={
            "days_of_microgrids": len(near),
            "worst_percent": round(max(near, default=0) / 10, 2),
            "median_percent": round(median(near or [0]) / 10, 2),
        },
    )


def _otherwise(stored: StoredDays, more: NDArray[np.int32], first: int, settled: SettledQuarters) -> SettledQuarters:
    """Return settled quarter-hours with what the replay makes more or less of them from the quarter ``first`` on."""
    at, known = stored.find(settled.meters)
    columns = settled.first - first + np.arange(settled.quality.shape[1])
    within = (columns >= 0) & (columns < more.shape[2])
    energies = {quantity: values.copy() for quantity, values in settled.energies.items()}
    for quantity, values in energies.items():
        has = stored.takes[at] if quantity in (Quantity.IMPORTED, Quantity.SHARED_IN) else ~stored.incoming[at]
        chosen = np.ix_(known & has, within)
        change = more[quantity - 1][np.ix_(stored.rows[at[known & has]], columns[within])]
        values[chosen] = np.maximum(values[chosen] + change * (settled.version[chosen] > 0), 0)
    return replace(settled, energies=energies)


def _accounts(bills: Sequence[Change]) -> list[AccountRow]:
    """Return what accounts pay in all months together, the largest rise first."""
    cents: dict[int, Counter[str]] = {}
    for each in bills:
        of = cents.setdefault(each.account, Counter())
        of.update(was=int(100 * (each.before or 0)), would=int(100 * each.after), more=int(100 * each.difference))
    ranked = sorted(cents.items(), key=lambda item: (-item[1]["more"], item[0]))
    return [AccountRow(account=n, **{name: dollars(of[name]) for name in ("was", "would", "more")}) for n, of in ranked]
