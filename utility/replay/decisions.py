"""Stored days of the town again, with another policy, battery, tariff or an outage, beside what was."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from functools import partial
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from commonwatt.energy.physics.places import blocks_of, places_of
from commonwatt.energy.simulation.figures import Figures
from commonwatt.energy.simulation.simulation import Simulation
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.time.local_calendar import month_of
from commonwatt.settlement.settled import QUARTERS_A_DAY, Quantity, SettledQuarters
from commonwatt.settlement.splits import Flags
from commonwatt.town.changes import changed
from commonwatt.town.conditions import Conditions
from commonwatt.town.scenario import Scenario
from commonwatt.town.town import Town
from utility.billing.decisions import previewed
from utility.billing.money import dollars
from utility.billing.run import Progress
from utility.database.database import Database
from utility.registry.layout import Day
from utility.replay.rows import AccountRow, LeftOutRow, PlaceRow
from utility.replay.runs import NEAR_PERMILLE, DayRun, differs_permille, run_day
from utility.replay.store.days import StoredDay, StoredDays, stored_town
from utility.replay.world import STEP_S, Place, StoredWorld, rows_of
from utility.supply.simulated.policies import POLICIES
from utility.tariffs.store.tariffs import published
from utility.tariffs.tariff import Tariff

Otherwise = Callable[[SettledQuarters], SettledQuarters]
WAS = "as it was"
MOST_ENERGIES = 10**8  # most quarter-hours of places, of all quantities, that are in memory: 0.4 GB
_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is replayed."""

    scenario: Scenario  # what happens, and the batteries; its days begin at ``start``, local time
    policy: str = "spec"  # the name of a policy
    tariff: Tariff | None = None  # another tariff; ``None``: those in force

    @property
    def days(self) -> range:
        """The days of UTC."""
        first = (self.scenario.start - _EPOCH).days
        return range(first, first + self.scenario.days)


@dataclass(kw_only=True)
class Replayed:
    """What a replay found."""

    asked: Asked
    runs: dict[str, Figures]  # the figures of what was, and of what would be
    accounts: list[AccountRow] = field(default_factory=list)  # who pays, the largest rise first
    places: list[PlaceRow] = field(default_factory=list)  # who goes dark and who helps
    left_out: list[LeftOutRow] = field(default_factory=list)  # days that do not count
    permille: list[float] = field(default_factory=list)  # by how much days that count differ from what was settled


def replay(database: Database, asked: Asked, default: str, progress: Progress) -> Replayed:
    """Replay days; ``default``: the name of the tariff of accounts without one.

    Raises:
        ConfigError: There is no town, no such microgrid or battery, or too many days.
        StoreError: What is stored is damaged.
    """
    with database.reads.begin() as connection:
        town, has_tariffs = stored_town(connection, asked.days.start * QUARTERS_A_DAY), bool(published(connection))
    row = {(name, one.location): 0 for name, grid in town.microgrids.items() for one in places_of(grid)}
    row = {place: number for number, place in enumerate(row)}
    most = MOST_ENERGIES // (4 * len(row) * QUARTERS_A_DAY)
    if len(asked.days) > most:
        raise ConfigError(f"to: at most {most} days of this town at once")
    stored = StoredDays(database, town, row)
    today = stored.day(asked.days.start)
    plain = Scenario(title=WAS, start=asked.scenario.start, days=asked.scenario.days)
    pair = ((town, plain, "spec"), (changed(town, asked.scenario), asked.scenario, asked.policy))
    simulations, rows = [], []
    for one, scenario, policy in pair:
        rows.append(rows_of(blocks_of(one, one.microgrids.values()), row))
        conditions = Conditions(scenario=scenario, zone=ZoneInfo(town.table.timezone), seed=town.table.seed)
        world = partial(StoredWorld, rows=rows[-1], today=lambda: today.course, levels=today.levels)
        simulations.append(Simulation(one, conditions, POLICIES[policy], STEP_S, world))
    found = Replayed(asked=asked, runs={WAS: simulations[0].figures, asked.policy: simulations[1].figures})
    more = np.zeros((4, len(row), len(asked.days) * QUARTERS_A_DAY), np.int32)
    sums = np.zeros((2, 3, len(row)), np.int64)
    for number, day in enumerate(asked.days):
        today = stored.day(day) if number else today
        was, would = (run_day(*each, day) for each in zip(simulations, rows, strict=True))
        counts = _judged(found, day, today, stored, was)[stored.owner]
        more[:, :, number * QUARTERS_A_DAY :][:, :, :QUARTERS_A_DAY] = (would.energies - was.energies) * counts[:, None]
        sums += np.stack([was.sums, would.sums]) * counts
        progress(number + 1, len(asked.days))
    found.places = [_place_row(place, *sums[:, :, number].tolist()) for place, number in row.items()]
    if has_tariffs:
        found.accounts = _accounts(database, asked, default, partial(_otherwise, stored, more, asked.days), town)
    return found


def _judged(found: Replayed, day: Day, today: StoredDay, stored: StoredDays, was: DayRun) -> Flags:
    """Return which microgrids' day counts; name the others."""
    permille = differs_permille(was, today.settled, stored.owner)
    near = permille <= NEAR_PERMILLE
    found.permille += permille[near & today.whole].tolist()
    for name, is_whole, is_near, off in zip(stored.microgrids, today.whole, near, permille, strict=True):
        if not is_whole or not is_near:
            why = f"differs by {off / 10:.1f} % from what was settled" if is_whole else "lacks readings"
            day_of = str(_EPOCH + timedelta(days=day))
            found.left_out.append(LeftOutRow(day=day_of, microgrid=name, why=why))
    return np.asarray(near & today.whole)


def _place_row(place: Place, was: list[int], would: list[int]) -> PlaceRow:
    return PlaceRow(
        microgrid=place[0],
        place=place[1],
        dark_h=round(would[2] / 3600, 2),
        dark_was_h=round(was[2] / 3600, 2),
        gives=would[0],
        gave=was[0],
        receives=would[1],
        received=was[1],
    )


def _otherwise(stored: StoredDays, more: NDArray[np.int32], days: range, settled: SettledQuarters) -> SettledQuarters:
    """Return settled quarter-hours with what the replay makes more or less of them."""
    begins = days.start * QUARTERS_A_DAY - settled.first
    start, end = np.clip([begins, begins + more.shape[2]], 0, settled.quality.shape[1]).tolist()
    at = np.searchsorted(stored.ids, settled.meters).clip(max=len(stored.ids) - 1)
    ours = stored.ids[at] == settled.meters
    there = (settled.version[:, start:end] > 0) & ours[:, None]
    # A place without an incoming meter, such as a building, has what it takes in its outgoing one.
    alone = ~np.isin(stored.rows[at], stored.rows[stored.incoming])
    energies = {}
    for quantity, values in settled.energies.items():
        takes = quantity in (Quantity.IMPORTED, Quantity.SHARED_IN)
        has = (stored.incoming[at] == takes) | (alone & takes)
        change = more[quantity - 1][stored.rows[at], start - begins : end - begins] * (there & has[:, None])
        energies[quantity] = values.copy()
        energies[quantity][:, start:end] = np.maximum(values[:, start:end] + change, 0)
    return replace(settled, energies=energies)


def _accounts(database: Database, asked: Asked, default: str, otherwise: Otherwise, town: Town) -> list[AccountRow]:
    zone = ZoneInfo(town.table.timezone)
    months = {month_of(day * QUARTERS_A_DAY, zone) for day in asked.days}
    was, would = Counter[int](), Counter[int]()
    for month in sorted(months):
        for change in previewed(database, asked.tariff, month, default, otherwise=otherwise):
            was[change.account] += int(100 * (change.before or 0))
            would[change.account] += int(100 * change.after)
    every = [
        AccountRow(account=n, was=dollars(was[n]), would=dollars(would[n]), more=dollars(would[n] - was[n]))
        for n in would
    ]
    return sorted(every, key=lambda each: (-each.more, each.account))
