"""A scenario's definition, a TOML file (N1 to N5), and its conditions at a time: demand, prices, faults."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from commonwatt.config.files import check_model, read_toml
from commonwatt.config.settings import Settings
from commonwatt.model.control import SupplyState
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import EpochSeconds, MicrogridId, MilliwattHours
from commonwatt.town.town import TownTable, hours_from

# The scenarios that come with the program; the two packages are always beside each other.
FOLDER = Path(__file__).parents[2] / "scenarios" / "files"
Hour = Annotated[float, Field(ge=0)]  # hours since the scenario's beginning

LocalHour = Annotated[int, Field(ge=0, le=24)]

Group = Literal["house", "apartment", "public"]  # a class of places with the same demand
# By kind of microgrid.
GROUPS: Mapping[str, Group] = {"residential": "house", "apartment": "apartment", "public": "public"}


class Demand(Settings):
    """The demand of a class of places, as a percentage of its ordinary day, in place of the model's reaction to heat.

    Where several apply to an hour, the last one holds.
    """

    of: Group = Field(description="The class of places.")
    percent: int = Field(ge=0, le=1000, description="Its demand, as a percentage of an ordinary day's.")
    hours: tuple[LocalHour, LocalHour] = Field((0, 24), description="Local hours of each day in which it holds.")
    from_day: int = Field(0, ge=0, description="First day on which it holds, from 0.")
    grows_percent_a_day: float = Field(0, ge=-100, le=100, description="Percentage points that each further day adds.")


class Peak(Settings):
    """The hours of the regional peak price from a day on."""

    from_day: int = Field(0, ge=0, description="First day on which it holds, from 0.")
    hours: tuple[LocalHour, LocalHour] = Field(description="Local hours of the peak price.")
    percent: int = Field(150, ge=100, le=10_000, description="Its price, as a percentage of the other hours'.")


class Outage(Settings):
    """A fault of the world, for some hours."""

    what: Literal["feeder", "town_line", "broadband", "controller"] = Field(
        description="feeder: the lines of microgrids to the town; town_line: the town's line to the region; broadband: "
        "the utility's network; controller: microgrids' controllers are dead."
    )
    from_hour: Hour = Field(description="When it begins, hours since the scenario's beginning.")
    for_hours: float = Field(gt=0, description="How long it lasts, hours.")
    residential_percent: int = Field(
        100, ge=0, le=100, description="Share of the residential microgrids that it meets (feeder, controller)."
    )
    microgrid: str = Field("", description="The one microgrid that it meets; empty: the share (feeder, controller).")


class Shortage(Settings):
    """The state of the regional supply, for some hours."""

    state: SupplyState = Field(description="The state.")
    from_hour: Hour = Field(description="When it begins, hours since the scenario's beginning.")
    for_hours: float = Field(gt=0, description="How long it lasts, hours.")


class Announcement(Settings):
    """A storm that the utility announces: until its end batteries hold their energy."""

    from_hour: Hour = Field(description="When it is announced, hours since the scenario's beginning.")
    for_hours: float = Field(gt=0, description="Hours from then to the storm's end.")


class ChangedBattery(Settings):
    """Other batteries than the town has; what is not given stays."""

    microgrid: str = Field("", description="The microgrid; empty: all.")
    place: str = Field("", description="The place, as the town names it; empty: all.")
    kwh: float | None = Field(None, gt=0, le=1e6, description="Its capacity.")
    minimum_percent: int | None = Field(None, ge=0, le=100, description="Its sharing minimum.")
    weight: int | None = Field(None, ge=1, le=1000, description="Its part of a shared discharge, relative to others.")


class Scenario(Settings):
    """A scenario."""

    title: str = Field(description="What it is, in a line.")
    start: date = Field(description="Its first day; it begins at local midnight, or at start_hour.")
    start_hour: int = Field(0, ge=0, le=23, description="Local hour of its beginning.")
    days: int = Field(7, ge=1, le=3660, description="Its length, days, unless the command says otherwise.")
    level_percent: int = Field(75, ge=0, le=100, description="Mean level of the batteries at the beginning.")
    overcast: Literal["as usual", "always", "never"] = Field("as usual", description="Which days are overcast (T7).")
    daily_drop: bool = Field(
        False, description="Each day one home in each residential microgrid uses so much that it falls to 25 % (N1)."
    )
    demand: tuple[Demand, ...] = ()
    peak: tuple[Peak, ...] = ()
    outage: tuple[Outage, ...] = ()
    supply: tuple[Shortage, ...] = ()
    storm: tuple[Announcement, ...] = ()
    battery: tuple[ChangedBattery, ...] = ()

    @model_validator(mode="after")
    def _hours_in_order(self) -> "Scenario":
        entries: tuple[Demand | Peak, ...] = (*self.demand, *self.peak)
        for entry in entries:
            if entry.hours[0] == entry.hours[1]:
                raise ValueError(f"hours {list(entry.hours)} are empty")
        return self


def names() -> list[str]:
    """Return the names of the scenarios that come with the program."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name: str) -> Scenario:
    """Return a scenario by its name, or from a file.

    Args:
        name: One of ``names``, or the path of a TOML file.

    Raises:
        ConfigError: There is no such scenario, or its file is wrong: one line for each fault.
    """
    path = FOLDER / f"{name}.toml" if name in names() else Path(name)
    if not path.exists():
        raise ConfigError(f"{name}: no scenario and no file; there are: {', '.join(names())}")
    return check_model(path, Scenario, read_toml(path))


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
