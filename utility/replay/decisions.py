"""Stored days of the town again, with another policy, batteries, tariff or an outage, beside what was."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from functools import partial
from statistics import median
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from commonwatt.energy.figures import RunFigures
from commonwatt.energy.places import blocks_of, places_of
from commonwatt.energy.simulation import Simulation, changed
from commonwatt.model.exceptions import ConfigError
from commonwatt.town.scenario import Conditions, Scenario
from commonwatt.town.town import Town
from utility.billing.decisions import previewed
from utility.billing.preview import BillChange
from utility.billing.run import Progress
from utility.database.database import Database
from utility.energy.quarters import QUARTERS_A_DAY, Quantity, SettledQuarters
from utility.readings.store.reads import stored_town
from utility.replay.store import StoredDays
from utility.replay.world import (
    STEP_S,
    AccountRow,
    LeftOutRow,
    PlaceRow,
    StoredWorld,
    differs_permille,
    rows_of,
    run_day,
)
from utility.supply.simulated import POLICIES
from utility.tariffs.store import published
from utility.tariffs.tariff import Tariff

MOST_ENERGIES = 10**8  # most energies of places and quarter-hours that are in memory: 0.4 GB
NEAR_PERMILLE = 10  # most by which the import and export of a day that counts differ from what was settled
WAS = "as it was"
_EPOCH, _NOTHING = date(1970, 1, 1), Decimal("0.00")


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """What a replay found."""

    runs: dict[str, RunFigures]  # the figures of what was, and of what would be
    accounts: list[AccountRow]  # who pays, the largest rise first
    places: list[PlaceRow]  # who goes dark, and who helps; those that change most first
    left_out: list[LeftOutRow]  # the days of microgrids that do not count
    near: dict[str, float]  # days that count; their worst and middle difference from what was settled, per cent

    @property
    def tables(self) -> dict[str, Sequence[BaseModel]]:
        """All rows, by title."""
        return {"who pays": self.accounts, "who goes dark, who helps": self.places, "left out": self.left_out}


class _Replay:
    """A replay, day by day."""

    def __init__(self, database: Database, scenario: Scenario, policy: str) -> None:
        self._first, self._scenario = (scenario.start - _EPOCH).days, scenario
        with database.reads.begin() as connection:
            quarters = (day * QUARTERS_A_DAY for day in (self._first, self._first + scenario.days))
            town = stored_town(connection, *quarters)
        named = dict.fromkeys((name, one.location) for name, grid in town.microgrids.items() for one in places_of(grid))
        self.row = {place: number for number, place in enumerate(named)}
        most = MOST_ENERGIES // (4 * QUARTERS_A_DAY * len(self.row))
        if policy not in POLICIES or scenario.days > most:
            why = f"to: at most {most} days of this town at once"
            raise ConfigError(why if policy in POLICIES else f"policy: there are {', '.join(POLICIES)}")
        self._stored = StoredDays(database, town, self.row)
        self._today = self._stored.day(self._first)
        self.zone = ZoneInfo(town.table.timezone)
        plain = Scenario(title=WAS, start=scenario.start, days=scenario.days)
        pair = ((town, plain, "spec"), (changed(town, scenario), scenario, policy))
        self._runs = [self._simulation(*each) for each in pair]
        self.figures = [simulation.figures for simulation, _ in self._runs]
        # What would be less what was: by ``Quantity``, place and quarter-hour.
        self._more = np.zeros((4, len(self.row), scenario.days * QUARTERS_A_DAY), np.int32)
        self.sums = np.zeros((2, 3, len(self.row)), np.int64)  # of ``run_day``, of what was and would be
        self.near: list[float] = []  # by how many thousandths the days that count differ from what was settled
        self.left_out: list[LeftOutRow] = []

    def _simulation(self, town: Town, scenario: Scenario, policy: str) -> tuple[Simulation, list[NDArray[np.intp]]]:
        rows = rows_of(blocks_of(town, town.microgrids.values()), self.row)
        world = partial(StoredWorld, rows=rows, today=lambda: self._today.course, levels=self._today.levels)
        conditions = Conditions(scenario=scenario, zone=self.zone, seed=town.table.seed)
        return Simulation(town, conditions, POLICIES[policy], STEP_S, world), rows

    def run(self, progress: Progress) -> None:
        """Run all days."""
        owner = self._stored.owner
        for number in range(self._scenario.days):
            self._today = self._stored.day(self._first + number) if number else self._today
            was, would = (run_day(*each, self._first + number) for each in self._runs)
            off = differs_permille(was[0], self._today.settled, owner)
            counts = self._today.whole & (off <= NEAR_PERMILLE)
            self.near += off[counts].tolist()
            for at in np.flatnonzero(~counts).tolist():
                differs = f"differs by {off[at] / 10:.1f} % from what was settled"
                why = differs if self._today.whole[at] else "lacks readings"
                day = str(self._scenario.start + timedelta(days=number))
                self.left_out.append(LeftOutRow(day=day, microgrid=self._stored.microgrids[at], why=why))
            quarters = slice(number * QUARTERS_A_DAY, (number + 1) * QUARTERS_A_DAY)
            self._more[:, :, quarters] = (would[0] - was[0]) * counts[owner, None]
            self.sums += np.stack([was[1], would[1]]) * counts[owner]
            progress(number + 1, self._scenario.days)

    def otherwise(self, settled: SettledQuarters) -> SettledQuarters:
        """Return settled quarter-hours with what the replay makes more or less of them."""
        stored, more = self._stored, self._more
        at, known = stored.find(settled.meters)
        columns = settled.first - self._first * QUARTERS_A_DAY + np.arange(settled.quality.shape[1])
        within = (columns >= 0) & (columns < more.shape[2])
        energies = {quantity: values.copy() for quantity, values in settled.energies.items()}
        for quantity, values in energies.items():
            has = stored.takes[at] if quantity in (Quantity.IMPORTED, Quantity.SHARED_IN) else ~stored.incoming[at]
            chosen = np.ix_(known & has, within)
            change = more[quantity - 1][np.ix_(stored.rows[at[known & has]], columns[within])]
            values[chosen] = np.maximum(values[chosen] + change * (settled.version[chosen] > 0), 0)
        return replace(settled, energies=energies)


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
    it = _Replay(database, scenario, policy)
    it.run(progress)
    days = (scenario.start + timedelta(days=number) for number in range(scenario.days))
    months = sorted({f"{day:%Y-%m}" for day in days}) if database.read(published) else []
    bills: list[BillChange] = []
    for month in months:
        progress(scenario.days, scenario.days)  # One that is cancelled stops here.
        bills += previewed(database, tariff, month, default, otherwise=it.otherwise)
    return Replayed(
        runs=dict(zip((WAS, policy), it.figures, strict=True)),
        accounts=_accounts(bills),
        places=sorted((PlaceRow.of(p, it.sums[:, :, at].tolist()) for p, at in it.row.items()), key=PlaceRow.rank),
        left_out=it.left_out,
        near={
            "days_of_microgrids": len(it.near),
            "worst_percent": round(max(it.near, default=0) / 10, 2),
            "median_percent": round(median(it.near or [0]) / 10, 2),
        },
    )


def _accounts(bills: Sequence[BillChange]) -> list[AccountRow]:
    """Return what accounts pay in all months together, the largest rise first."""
    sums: dict[int, tuple[Decimal, Decimal]] = {}
    for each in bills:
        was, would = sums.get(each.account, (_NOTHING, _NOTHING))
        sums[each.account] = was + (each.before or _NOTHING), would + each.after
    rows = (AccountRow(account=n, was=was, would=would, more=would - was) for n, (was, would) in sums.items())
    return sorted(rows, key=lambda row: (-row.more, row.account))
