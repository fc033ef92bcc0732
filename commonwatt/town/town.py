"""The town: microgrids, places, meters, batteries and accounts, numbered from one town file (requirements T1-T8).

Everything in a town has one number that never changes. A table of places states them (``commonwatt.town.places``). In a
file with [[microgrid]] tables they are counted, and stay while entries are only appended: controllers count from 1 in
the order of the file, a meter's id is controller * 10,000 + its position, accounts count from 1 (0 means none).
Addresses follow from the ids.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address

from commonwatt.identity.devices import AUTHORITY_FOLDER
from commonwatt.model.ids import MeterId
from commonwatt.model.records import RecordType
from commonwatt.model.units import ControllerId, MicrogridId, MilliwattHours
from commonwatt.protocol.commands import Kind
from commonwatt.protocol.topics import PLANT, UTILITY
from commonwatt.town.file import TownTable

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
