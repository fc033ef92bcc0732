"""A scenario's definition: a TOML file, checked key by key (N1 to N5)."""

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from commonwatt.config.files import check_model, read_toml
from commonwatt.config.settings import Settings
from commonwatt.model.control.supply import SupplyState
from commonwatt.model.exceptions import ConfigError

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
