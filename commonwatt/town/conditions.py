"""The conditions of a scenario at a time: demand, prices, faults and supply, as functions of its definition."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.control.supply import SupplyState
from commonwatt.model.units import EpochSeconds, MicrogridId, MilliwattHours
from commonwatt.town.file import TownTable, hours_from
from commonwatt.town.scenario import Group, Outage, Scenario

DROP_HOURS = (17, 20)
"""Local hours of each day between which one home of each residential microgrid uses its battery up (N1)."""


@dataclass(frozen=True, kw_only=True)
class Drop:
    """The home of each residential microgrid that falls to a quarter of its battery today (N1)."""

    day: int  # the day of the scenario, from 0
    left_s: int  # seconds until it shall have fallen

    def home(self, microgrid: int, homes: int) -> int:
        """Return which of the homes it is, in the microgrid of this number."""
        return (microgrid + self.day) % homes

    def use(self, level: MilliwattHours, capacity: MilliwattHours, step_s: int, most: MilliwattHours) -> MilliwattHours:
        """Return what it uses beyond its ordinary load in a step, at most what its service leaves.

        Neighbours help it until the end: without the limit, its last step would use all of their help at once.
        """
        return min(max(level - capacity // 4, 0) * step_s // self.left_s, max(most, 0))


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """A scenario's conditions in a town."""

    scenario: Scenario  # its definition
    zone: ZoneInfo  # the town's time zone
    seed: int  # the town's seed, which decides whom a partial fault meets

    @property
    def begin(self) -> EpochSeconds:
        """The time of its beginning, UTC epoch seconds."""
        day = self.scenario.start
        return int(datetime(day.year, day.month, day.day, self.scenario.start_hour, tzinfo=self.zone).timestamp())

    def end(self, days: int | None = None) -> EpochSeconds:
        """Return the time of its end, after whole local days."""
        begin = datetime.fromtimestamp(self.begin, self.zone).replace(tzinfo=None)
        last = begin + timedelta(days=days or self.scenario.days)
        return int(last.replace(tzinfo=self.zone).timestamp())

    def demand_percent(self, of: Group, time: EpochSeconds) -> float | None:
        """Return a class's demand as a percentage of its ordinary day; ``None``: the model decides."""
        day, hour = self._local(time)
        held = [d for d in self.scenario.demand if d.of == of and day >= d.from_day and _within(hour, d.hours)]
        return held[-1].percent + held[-1].grows_percent_a_day * (day - held[-1].from_day) if held else None

    def price_percent(self, time: EpochSeconds, table: TownTable) -> int:
        """Return the regional price as a percentage of the price outside peak hours.

        Args:
            table: The town's, whose peak counts while the scenario has none.
        """
        day, hour = self._local(time)
        held = [peak for peak in self.scenario.peak if day >= peak.from_day]
        usual = (table.peak_start_hour, table.peak_end_hour), round(table.peak_factor * 100)
        hours, percent = (held[-1].hours, held[-1].percent) if held else usual
        return percent if _within(hour, hours) else 100

    def supply(self, time: EpochSeconds) -> SupplyState:
        """Return the state of the regional supply."""
        hours = (time - self.begin) / 3600
        held = [s.state for s in self.scenario.supply if s.from_hour <= hours < s.from_hour + s.for_hours]
        return held[-1] if held else SupplyState.NORMAL

    def is_held(self, time: EpochSeconds) -> bool:
        """Return whether a storm is announced, so that batteries hold their energy."""
        hours = (time - self.begin) / 3600
        return any(one.from_hour <= hours < one.from_hour + one.for_hours for one in self.scenario.storm)

    def drop(self, time: EpochSeconds) -> Drop | None:
        """Return the homes that fall, in the hours in which they do; ``None``: none."""
        day, hour = self._local(time)
        if not self.scenario.daily_drop or not _within(hour, DROP_HOURS):
            return None
        return Drop(day=day, left_s=round((DROP_HOURS[1] - hour) * 3600))

    def is_out(self, what: str, time: EpochSeconds) -> bool:
        """Return whether a fault of the whole town holds: ``broadband`` or ``town_line``."""
        return any(self._holds(outage, time) for outage in self.scenario.outage if outage.what == what)

    def out(self, what: str, time: EpochSeconds, residential: int) -> NDArray[np.bool_]:
        """Return which residential microgrids a fault meets: ``feeder`` or ``controller``.

        Args:
            residential: The number of residential microgrids.
        """
        met = np.zeros(residential, dtype=np.bool_)
        for number, outage in enumerate(self.scenario.outage):
            if outage.what == what and not outage.microgrid and self._holds(outage, time):
                order = np.random.default_rng([self.seed, number]).permutation(residential)
                met[order[: round(residential * outage.residential_percent / 100)]] = True
        return met

    def named(self, what: str, time: EpochSeconds) -> set[MicrogridId]:
        """Return the microgrids that a fault meets by their names: ``feeder`` or ``controller``."""
        return {one.microgrid for one in self.scenario.outage if one.what == what and self._holds(one, time)} - {""}

    def _holds(self, outage: Outage, time: EpochSeconds) -> bool:
        hours = (time - self.begin) / 3600
        return outage.from_hour <= hours < outage.from_hour + outage.for_hours

    def _local(self, time: EpochSeconds) -> tuple[int, float]:
        """Return the day of the scenario, from 0, and the local hour."""
        local = datetime.fromtimestamp(time, self.zone)
        return (local.date() - self.scenario.start).days, local.hour + local.minute / 60 + local.second / 3600


def _within(hour: float, hours: tuple[int, int]) -> bool:
    return int(hour) in hours_from(*hours)
