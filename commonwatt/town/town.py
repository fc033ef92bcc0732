"""The town: microgrids, places, meters, batteries and accounts, numbered from one town file (TOML).

Everything in a town has one number that never changes. A table of places states them (``commonwatt.town.loading``). In
a file with [[microgrid]] tables they are counted, and stay while entries are only appended: controllers count from 1 in
the order of the file, a meter's id is controller * 10,000 + its position, accounts count from 1 (0 means none).
Addresses follow from the ids.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address
from typing import Literal, Self

from pydantic import Field, model_validator

from commonwatt.config.files import toml_table
from commonwatt.config.settings import MicrogridName, Settings, Zone
from commonwatt.identity.devices import AUTHORITY_FOLDER
from commonwatt.model.records import RecordType
from commonwatt.model.units import ControllerId, MeterId, MicrogridId, MilliwattHours
from commonwatt.protocol.commands import Kind
from commonwatt.protocol.topics import PLANT, UTILITY


def hours_from(first: int, last: int) -> tuple[int, ...]:
    """Return the hours of a day from ``first`` to before ``last``, over midnight if ``last`` is the smaller one."""
    return tuple(hour % 24 for hour in range(first, last + 24 * (last < first)))


class TownTable(Settings):
    """The town itself."""

    name: str = Field("Centertown", description="The town's name.")
    latitude: float = Field(42.36, ge=-66, le=66, description="Degrees north; determines the sun's path.")
    longitude: float = Field(-71.06, ge=-180, le=180, description="Degrees east.")
    timezone: Zone = Field("America/New_York", description="Local time of tariffs and daily habits.")
    language: Literal["en", "de", "es"] | None = Field(
        None, description="The language of residents whose account and tariff name none; absent: their browser's."
    )
    currency: str = Field(
        "USD", pattern=r"^[A-Z]{3}$", description="The currency of a first tariff, ISO 4217, until it is written."
    )
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


MAX_ACCOUNT = 2**16 - 1  # the highest account number in a record (16 bits)
CONTROLLER_STEP = 10_000  # numbers of meters for each controller, counted
# Folders and identities of the utility, which no microgrid can have as its name.
RESERVED = frozenset({UTILITY, PLANT, "head-end", AUTHORITY_FOLDER, "enrolment"})
_ADDRESSES = 2**24  # in 10.0.0.0/8

MAX_MICROGRIDS = 1000

_FIRST_FOREIGN = (MAX_MICROGRIDS + 1) * CONTROLLER_STEP  # offset of the first address of a meter of another maker


class Function(StrEnum):
    """The kind of place or device behind a meter."""

    HOUSE = "house"
    APARTMENT = "apartment"
    BUILDING = "building"
    HOSPITAL = "hospital"
    POLICE = "police"
    FIRE = "fire"
    SOLAR_FARM = "solar_farm"
    BOUNDARY = "boundary"
    FOREIGN = "foreign"
    ADAPTED = "adapted"  # foreign, and its messages come through an adapter (docs/adapters.md)


WITHOUT = (
    "no acknowledgement to the device: it does not keep what was not delivered",
    "no state of its own: commands are published again after its restart",
    "only commands whose topic its adapter names",
    "averages where it did not report in each slot",
)
"""What a meter behind an adapter can't promise, whatever its rules (docs/adapters.md)."""


class Direction(StrEnum):
    """The one direction a meter measures: out of the place, or into it (seen from the microgrid for the boundary)."""

    OUTGOING = "outgoing"
    INCOMING = "incoming"


@dataclass(frozen=True, kw_only=True)
class Battery:
    """A battery."""

    capacity: MilliwattHours  # its capacity, milliwatt-hours
    minimum_percent: int  # the emulated householder's choice (T6); a meter's answer to ``initialize`` is the truth
    weight: int = 1  # its part of a shared discharge, relative to other donors


@dataclass(frozen=True, kw_only=True)
class Meter:
    """One meter in the registry (T8)."""

    id: MeterId  # its 64-bit id
    microgrid: MicrogridId  # the microgrid it belongs to
    address: str  # its static address
    location: str  # its place, one name for all meters of a place
    function: Function  # the kind of place or device behind it
    direction: Direction  # the one direction it measures
    account: int  # the account of its energy; 0: none
    record_types: tuple[RecordType, ...]  # its record types, ascending
    service_amps: int  # the service it measures
    battery: Battery | None = None  # the battery whose sharing it controls; ``None``: no battery
    push: bool = True  # the emulated push switch (M4): it sends without a request
    shares: bool = True  # whether its battery shares by command; else it only receives
    building: str | None = None  # the place of the building that it is in; ``None``: in none
    replaces: MeterId | None = None  # the meter that it replaces at its place; ``None``: none
    stated: bool = False  # whether the file states its numbers; else they are counted

    @property
    def emulated(self) -> bool:
        """Whether the emulator runs it; meters of other makers, and those that replace one, run by themselves."""
        return self.function not in (Function.FOREIGN, Function.ADAPTED) and self.replaces is None

    @property
    def commandable(self) -> frozenset[Kind]:
        """The kinds of states that commands can set."""
        takes = self.function is Function.BOUNDARY and self.direction is Direction.INCOMING
        return frozenset(Kind) if takes else frozenset(Kind) - {Kind.IMPORT_LIMIT}


@dataclass(frozen=True, kw_only=True)
class Microgrid:
    """One microgrid and its controller."""

    id: str  # its name
    number: int  # its controller's number, from 1
    kind: str  # residential, apartment or public
    address: str  # the controller's static address
    meters: tuple[Meter, ...] = field(repr=False)  # its meters, the boundary's two and those of other makers included


@dataclass(frozen=True, kw_only=True)
class Town:
    """The whole town."""

    table: TownTable  # the file's ``[town]`` table
    microgrids: dict[str, Microgrid]  # by name, in the order of their numbers
    # The further controllers that take the records of a microgrid's meters, of those that have some.
    collectors: dict[MicrogridId, tuple[ControllerId, ...]] = field(default_factory=dict)

    @property
    def meters(self) -> list[Meter]:
        """Every meter, in the order of ids within each microgrid."""
        return [meter for microgrid in self.microgrids.values() for meter in microgrid.meters]

    @property
    def installed(self) -> list[Meter]:
        """Every meter but those that another one has replaced."""
        replaced = {meter.replaces for meter in self.meters}
        return [meter for meter in self.meters if meter.id not in replaced]

    def collected_by(self, controller: ControllerId) -> list[MicrogridId]:
        """Return the microgrids for which a controller is a collector."""
        return [name for name, some in self.collectors.items() if controller in some]

    @property
    def accounts(self) -> int:
        """Number of customer accounts."""
        return len({meter.account for meter in self.meters if meter.account})

    @property
    def average_w(self) -> int:
        """Average use of the whole town, in watts."""
        return sum(
            average_w(self.table, meter.function) for meter in self.installed if meter.direction is Direction.INCOMING
        )

    @property
    def battery_capacity(self) -> MilliwattHours:
        """Capacity of the town's own battery, milliwatt-hours (T5)."""
        return int(self.average_w * self.table.battery_hours * 1000)

    def regional_price_factor(self, local_hour: int) -> float:
        """Return the regional price in a local hour as a multiple of that outside peak hours (T5)."""
        return self.table.peak_factor if local_hour in self.table.peak_hours else 1.0


def average_w(table: TownTable, function: Function) -> int:
    """Return the average use of one place, in watts; 0 for a place without own use."""
    return {
        Function.HOUSE: table.house_average_w,
        Function.APARTMENT: table.apartment_average_w,
        Function.HOSPITAL: table.hospital_average_w,
        Function.POLICE: table.police_average_w,
        Function.FIRE: table.fire_average_w,
    }.get(function, 0)


def address_of(number: int) -> str:
    """Return the static address of a controller."""
    return address_of_id(number * CONTROLLER_STEP)


def addresses_of(meters: list[MeterId]) -> dict[MeterId, str]:
    """Return the address of each meter of a table of places: its id, or one that no other element has."""
    counted = {meter for meter in meters if meter < _FIRST_FOREIGN and meter % CONTROLLER_STEP}
    return foreign_addresses([m for m in meters if m not in counted]) | {m: address_of_id(m) for m in counted}


def foreign_addresses(ids: list[MeterId], others: Collection[str] = ()) -> dict[MeterId, str]:
    """Return addresses that no other element has: beyond all numbers of ours, the next one free in the file's order."""
    free = _ADDRESSES - _FIRST_FOREIGN
    base = int(IPv4Address("10.0.0.0")) + _FIRST_FOREIGN
    taken = {int(IPv4Address(address)) - base for address in others}
    addresses = {}
    for meter_id in ids:
        place = next(at % free for at in range(meter_id, meter_id + free) if at % free not in taken)
        taken.add(place)
        addresses[meter_id] = address_of_id(_FIRST_FOREIGN + place)
    return addresses


def address_of_id(number: int) -> str:
    """Return the static address of an element: its number within 10.0.0.0/8."""
    return str(IPv4Address(int(IPv4Address("10.0.0.0")) + number % _ADDRESSES))
