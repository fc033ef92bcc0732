"""The town file (TOML): settings of a town, its microgrids, and meters of other makers."""

from typing import Literal, Self

from pydantic import Field, model_validator

from commonwatt.config.files import toml_table
from commonwatt.config.settings import MicrogridName, Settings, Zone


def hours_from(first: int, last: int) -> tuple[int, ...]:
    """Return the hours of a day from ``first`` to before ``last``, over midnight if ``last`` is the smaller one."""
    return tuple(hour % 24 for hour in range(first, last + 24 * (last < first)))


class TownTable(Settings):
    """The town itself."""

    name: str = Field("Centertown", description="The town's name.")
    latitude: float = Field(42.36, ge=-66, le=66, description="Degrees north; determines the sun's path.")
    longitude: float = Field(-71.06, ge=-180, le=180, description="Degrees east.")
    timezone: Zone = Field("America/New_York", description="Local time of tariffs and daily habits.")
    places: str | None = Field(
        None,
        pattern=r"^[^/\\\x00]{1,100}$",
        description="A table (CSV) beside this file with every place and its numbers, made by `commonwatt town "
        "generate`; in place of the [[microgrid]] tables, whose numbers are counted.",
    )
    seed: int = Field(1, ge=0, lt=2**64, description="Seed of the emulator's random numbers.")
    battery_hours: float = Field(
        12, ge=0, le=10_000, description="The town battery, in hours of the town's average use (T5)."
    )
    battery_power_hours: float = Field(
        4, ge=0.01, le=1000, description="Hours in which the town battery can be charged or discharged at full power."
    )
    line_normal: float = Field(
        2,
        ge=0,
        le=100,
        description="Limit of the regional line, in multiples of the town's average use: supply NORMAL.",
    )
    line_low: float = Field(1, ge=0, le=100, description="The same limit: supply LOW.")
    line_critical: float = Field(0.3, ge=0, le=100, description="The same limit: supply CRITICAL.")
    charging_loss_permille: int = Field(
        0,
        ge=0,
        le=900,
        description="Part of what charges a battery that is lost, in thousandths; of every battery.",
    )
    peak_start_hour: int = Field(15, ge=0, le=23, description="Local hour at which the peak price starts (T5).")
    peak_end_hour: int = Field(
        21,
        ge=1,
        le=24,
        description="Local hour at which the peak price ends (T5); below `peak_start_hour`: of the next day.",
    )
    peak_factor: float = Field(
        1.5, ge=1, le=100, description="Regional price in peak hours, as a multiple of the price outside them (T5)."
    )
    house_average_w: int = Field(1200, gt=0, le=10_000_000, description="Average use of a house, in watts.")
    apartment_average_w: int = Field(600, gt=0, le=10_000_000, description="Average use of an apartment, in watts.")
    hospital_average_w: int = Field(60_000, gt=0, le=10_000_000, description="Average use of the hospital, in watts.")
    police_average_w: int = Field(
        12_000, gt=0, le=10_000_000, description="Average use of the police station, in watts."
    )
    fire_average_w: int = Field(8_000, gt=0, le=10_000_000, description="Average use of the fire station, in watts.")

    @property
    def peak_hours(self) -> tuple[int, ...]:
        """The local hours of the peak price (T5)."""
        return hours_from(self.peak_start_hour, self.peak_end_hour)


class MicrogridTable(Settings):
    """A microgrid, or several alike."""

    id: MicrogridName = Field(description="Its name; of several, the start of their names (r gives r001, r002, ...).")
    kind: Literal["residential", "apartment", "public"] = Field(description="The kind of its places.")
    count: int | None = Field(
        None, ge=1, le=999, description="Number of equal microgrids; without it, one, named by the id itself."
    )
    houses: int = Field(10, ge=0, le=99, description="Houses (residential); 0: none but meters of other makers.")
    boundary: bool = Field(
        True,
        description="Whether meters measure its boundary to the town. Until one reports, no battery begins to share; "
        "without them the microgrid is managed as connected.",
    )
    buildings: int = Field(3, ge=1, le=9, description="Buildings (apartment).")
    apartments: int = Field(10, ge=1, le=999, description="Apartments in each building (apartment).")
    push_share: float = Field(
        0.7, ge=0, le=1, description="Share of places whose switch is set to send by itself (M4)."
    )


class MeterTable(Settings):
    """A meter from another maker, added to a microgrid; it runs by itself, outside the emulator."""

    microgrid: MicrogridName = Field(description="The microgrid it belongs to.")
    id: int = Field(ge=1, lt=2**64, description="Its id.")
    direction: Literal["outgoing", "incoming"] = Field("incoming", description="The one direction it measures.")
    location: str = Field("third party", description="Where it is.")
    account: int = Field(0, ge=0, lt=2**16, description="The account of its energy; 0: none.")
    record_types: list[Literal["generation", "stored", "through", "register"]] = Field(
        ["through"], min_length=1, description="Its record types."
    )
    battery_capacity_mwh: int | None = Field(
        None, gt=0, le=2**53, description="Capacity of the battery behind it; without it, no battery."
    )
    adapter: bool = Field(
        False, description="Whether its messages come through an adapter; `/meters` then says what it can't promise."
    )
    shares: bool = Field(
        True, description="Whether its battery shares by command; false for one that can only receive."
    )
    service_amps: int = Field(200, ge=1, le=10_000, description="The service it measures.")
    replaces: int | None = Field(
        None,
        ge=1,
        lt=2**64,
        description="The meter of the same microgrid that it replaces, with `commonwatt swap meter`; all other keys "
        "are those of that meter.",
    )

    @model_validator(mode="after")
    def _is_like_the_replaced(self) -> Self:
        stated = self.model_fields_set - {"microgrid", "id", "replaces"}
        if self.replaces is not None and stated:
            raise ValueError(f"{', '.join(sorted(stated))}: is that of the meter that it replaces; leave it out")
        return self


class CollectorsTable(Settings):
    """Further controllers that take the records of a microgrid's meters, so that no LTE line carries too much."""

    microgrid: MicrogridName = Field(description="The microgrid of the meters.")
    controllers: tuple[MicrogridName, ...] = Field(
        min_length=1,
        max_length=100,
        description="The controllers; each meter gets some of them as brokers, in turn, eight brokers at most.",
    )


class TownFile(Settings):
    """A town file."""

    town: TownTable = TownTable()
    microgrid: list[MicrogridTable] = Field(default_factory=list, max_length=1000)
    meter: list[MeterTable] = Field(default_factory=list)
    collectors: list[CollectorsTable] = Field(default_factory=list)

    @model_validator(mode="after")
    def _has_microgrids(self) -> Self:
        if not self.microgrid and self.town.places is None:
            raise ValueError("microgrid: missing; give [[microgrid]] tables, or a table of `places` in [town]")
        if self.microgrid and self.town.places is not None:
            raise ValueError("there are [[microgrid]] tables and `places` in [town]: give one of them")
        return self

    def text(self) -> str:
        """Return the file's text, with the keys that are stated."""
        tables: list[tuple[str, Settings]] = [("[town]", self.town)]
        tables += [("[[microgrid]]", table) for table in self.microgrid]
        tables += [("[[meter]]", table) for table in self.meter]
        tables += [("[[collectors]]", table) for table in self.collectors]
        own = ((header, table.model_dump(exclude_unset=True, exclude_none=True)) for header, table in tables)
        return "\n".join(toml_table(header, keys) for header, keys in own)
