"""The town: microgrids, places, meters, batteries and accounts, numbered from one town file (requirements T1-T8).

Everything in a town file has one number that never changes while entries are only appended: controllers count from 1
in the order of the file, a meter's id is controller * 10,000 + its position, accounts count from 1 (0 means none),
addresses follow from the ids.
"""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address
from pathlib import Path

from commonwatt.config.files import check_model, read_toml
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.ids import MeterId
from commonwatt.model.records import RecordType
from commonwatt.model.units import MicrogridId, MilliwattHours
from commonwatt.protocol.commands import Kind
from commonwatt.protocol.topics import MICROGRID_PATTERN
from commonwatt.town.file import MeterTable, MicrogridTable, TownFile, TownTable

MAX_ACCOUNT = 2**16 - 1
"""The highest account number in a record (16 bits)."""

_CONTROLLER_STEP = 10_000

_BOUNDARY_AMPS = 4000

_ADDRESSES = 2**24
"""In 10.0.0.0/8."""

_MAX_MICROGRIDS = 1000

_FIRST_FOREIGN = (_MAX_MICROGRIDS + 1) * _CONTROLLER_STEP
"""Offset of the first address of a meter of another maker."""


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
    ADAPTED = "adapted"
    """Foreign, and its messages come through an adapter (docs/adapters.md)."""


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
    """A battery.

    Attributes:
        capacity: Its capacity, milliwatt-hours.
        minimum_percent: The emulated householder's choice (T6); a meter's answer to ``initialize`` is the truth.
    """

    capacity: MilliwattHours
    minimum_percent: int


@dataclass(frozen=True, kw_only=True)
class Meter:
    """One meter in the registry (T8).

    Attributes:
        id: Its 64-bit id.
        microgrid: The microgrid it belongs to.
        address: Its static address.
        location: Its place, one name for all meters of a place.
        function: The kind of place or device behind it.
        direction: The one direction it measures.
        account: The account of its energy; 0: none.
        record_types: Its record types, ascending.
        service_amps: The service it measures.
        battery: The battery whose sharing it controls; ``None``: no battery.
        push: The emulated push switch (M4): it sends without a request.
        shares: Whether its battery shares by command; else it only receives.
        building: The place of the building that it is in; ``None``: in none.
        replaces: The meter that it replaces at its place; ``None``: none.
        stated: Whether the file states its numbers; else they are counted.
    """

    id: MeterId
    microgrid: MicrogridId
    address: str
    location: str
    function: Function
    direction: Direction
    account: int
    record_types: tuple[RecordType, ...]
    service_amps: int
    battery: Battery | None = None
    push: bool = True
    shares: bool = True
    building: str | None = None
    replaces: MeterId | None = None
    stated: bool = False

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
    """One microgrid and its controller.

    Attributes:
        id: Its name.
        number: Its controller's number, from 1.
        kind: residential, apartment or public.
        address: The controller's static address.
        meters: Its meters, the boundary's two and those of other makers included.
    """

    id: str
    number: int
    kind: str
    address: str
    meters: tuple[Meter, ...] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Town:
    """The whole town.

    Attributes:
        table: The file's ``[town]`` table.
        microgrids: By name, in the order of their numbers.
    """

    table: TownTable
    microgrids: dict[str, Microgrid]

    @property
    def meters(self) -> list[Meter]:
        """Every meter, in the order of ids within each microgrid."""
        return [meter for microgrid in self.microgrids.values() for meter in microgrid.meters]

    @property
    def accounts(self) -> int:
        """Number of customer accounts."""
        return len({meter.account for meter in self.meters if meter.account})

    @property
    def average_w(self) -> int:
        """Average use of the whole town, in watts."""
        return sum(
            average_w(self.table, meter.function) for meter in self.meters if meter.direction is Direction.INCOMING
        )

    @property
    def battery_capacity(self) -> MilliwattHours:
        """Capacity of the town's own battery, milliwatt-hours (T5)."""
        return int(self.average_w * self.table.battery_hours * 1000)

    def regional_price_factor(self, local_hour: int) -> float:
        """Return the regional price in a local hour as a multiple of that outside peak hours (T5)."""
        return self.table.peak_factor if self.table.peak_start_hour <= local_hour < self.table.peak_end_hour else 1.0


def average_w(table: TownTable, function: Function) -> int:
    """Return the average use of one place, in watts; 0 for a place without own use."""
    return {
        Function.HOUSE: table.house_average_w,
        Function.APARTMENT: table.apartment_average_w,
        Function.HOSPITAL: table.hospital_average_w,
        Function.POLICE: table.police_average_w,
        Function.FIRE: table.fire_average_w,
    }.get(function, 0)


def load_town(path: Path) -> Town:
    """Read a town file.

    Raises:
        ConfigError: Naming the line, the key and what is allowed.
    """
    return town_of(check_model(path, TownFile, read_toml(path)), path)


def names_of(table: MicrogridTable) -> list[str]:
    """Return the names of the microgrids that a table stands for."""
    return [table.id] if table.count is None else [f"{table.id}{n:03d}" for n in range(1, table.count + 1)]


def town_of(file: TownFile, path: Path) -> Town:
    """Number the elements of a town; ``path`` is named in errors.

    Raises:
        ConfigError: Two elements have one name, or there are too many.
    """
    builder = _Builder(file)
    for table in file.microgrid:
        for name in names_of(table):
            if name in builder.microgrids:
                raise ConfigError(f"{path}: microgrid {name} is there twice; give each [[microgrid]] its own id")
            if not re.fullmatch(MICROGRID_PATTERN, name):
                raise ConfigError(f"{path}: microgrid {name}: is too long a name; at most 16 characters")
            builder.add(name, table)
    if builder.accounts > MAX_ACCOUNT:
        raise ConfigError(f"{path}: {builder.accounts} accounts, more than records can name ({MAX_ACCOUNT})")
    if (number := len(builder.microgrids)) > _MAX_MICROGRIDS:
        raise ConfigError(f"{path}: {number} microgrids, more than there are addresses for ({_MAX_MICROGRIDS})")
    foreign = [meter.microgrid for meter in file.meter if meter.microgrid not in builder.microgrids]
    if foreign:
        raise ConfigError(f"{path}: [[meter]] names microgrid {foreign[0]}, which is not in this file")
    town = Town(table=file.town, microgrids=builder.microgrids)
    ids = [meter.id for meter in town.meters]
    if len(set(ids)) != len(ids):
        twice = next(i for i in ids if ids.count(i) > 1)
        raise ConfigError(f"{path}: meter {twice} is there twice; give the [[meter]] another id")
    return town


class _Builder:
    """Numbers the elements of a town in the order of its file."""

    def __init__(self, file: TownFile) -> None:
        self.file = file
        self.microgrids: dict[str, Microgrid] = {}
        self.accounts = 0
        self._addresses = _foreign_addresses([meter.id for meter in file.meter])

    def add(self, name: str, table: MicrogridTable) -> None:
        number = len(self.microgrids) + 1
        self._microgrid, self._number, self._push_share = name, number, table.push_share
        self._meters: list[Meter] = []
        self._places = 0
        getattr(self, f"_{table.kind}")(table)
        # The boundary's service is the sum of the incoming services behind it, at least _BOUNDARY_AMPS.
        amps = max(_BOUNDARY_AMPS, sum(m.service_amps for m in self._meters if m.direction is Direction.INCOMING))
        for direction in Direction:
            self._meter(Function.BOUNDARY, "boundary", direction, amps=amps, places=0)
        self._meters += [self._foreign(meter) for meter in self.file.meter if meter.microgrid == name]
        self.microgrids[name] = Microgrid(
            id=name,
            number=number,
            kind=table.kind,
            address=_address(number * _CONTROLLER_STEP),
            meters=tuple(self._meters),
        )

    def _residential(self, table: MicrogridTable) -> None:
        for n in range(table.houses):
            battery = Battery(
                capacity=self._day_of(Function.HOUSE), minimum_percent=(25, 50, 75)[(self._number + n) % 3]
            )
            account = self._next_account()
            self._meter(Function.HOUSE, f"house {n + 1}", Direction.OUTGOING, account=account, battery=battery)
            self._meter(Function.HOUSE, f"house {n + 1}", Direction.INCOMING, account=account, places=0)

    def _apartment(self, table: MicrogridTable) -> None:
        for b in range(table.buildings):
            battery = Battery(capacity=self._day_of(Function.APARTMENT) * table.apartments, minimum_percent=50)
            building = f"building {b + 1}"
            amps = 100 * table.apartments
            self._meter(Function.BUILDING, building, Direction.OUTGOING, battery=battery, amps=amps)
            for a in range(table.apartments):
                self._meter(
                    Function.APARTMENT,
                    f"{building} apartment {a + 1}",
                    Direction.INCOMING,
                    account=self._next_account(),
                    amps=100,
                    building=building,
                )

    def _public(self, table: MicrogridTable) -> None:
        del table
        services = (Function.HOSPITAL, Function.POLICE, Function.FIRE)
        for function in services:
            self._meter(function, function.value, Direction.INCOMING, account=self._next_account(), amps=2000)
        battery = Battery(capacity=sum(self._day_of(function) for function in services), minimum_percent=75)
        self._meter(Function.SOLAR_FARM, "solar farm", Direction.OUTGOING, battery=battery, amps=4000)

    def _meter(
        self,
        function: Function,
        location: str,
        direction: Direction,
        *,
        account: int = 0,
        battery: Battery | None = None,
        amps: int = 200,
        places: int = 1,
        building: str | None = None,
    ) -> None:
        """Append the next meter; ``places`` is 0 for a second meter at the same place, which shares its switch."""
        self._places += places
        # The switches are spread evenly over the places, so that any share is met from the start.
        push = function is Function.BOUNDARY or int(self._places * self._push_share) > int(
            (self._places - 1) * self._push_share
        )
        solar = battery is not None
        types = (RecordType.GENERATION, RecordType.STORED, RecordType.THROUGH) if solar else (RecordType.THROUGH,)
        meter_id = self._number * _CONTROLLER_STEP + len(self._meters) + 1
        self._meters.append(
            Meter(
                id=meter_id,
                microgrid=self._microgrid,
                address=_address(meter_id),
                location=location,
                function=function,
                direction=direction,
                account=account,
                record_types=types,
                service_amps=amps,
                battery=battery,
                push=push,
                building=building,
            )
        )

    def _foreign(self, table: MeterTable) -> Meter:
        battery = None
        if table.battery_capacity_mwh is not None:
            battery = Battery(capacity=table.battery_capacity_mwh, minimum_percent=50)
        return Meter(
            id=table.id,
            microgrid=table.microgrid,
            address=self._addresses[table.id],
            location=table.location,
            function=Function.ADAPTED if table.adapter else Function.FOREIGN,
            direction=Direction(table.direction),
            account=table.account,
            record_types=tuple(sorted(RecordType[name.upper()] for name in table.record_types)),
            service_amps=table.service_amps,
            battery=battery,
            shares=table.shares,
            stated=True,
        )

    def _day_of(self, function: Function) -> MilliwattHours:
        return average_w(self.file.town, function) * 24 * 1000

    def _next_account(self) -> int:
        self.accounts += 1
        return self.accounts


def _foreign_addresses(ids: list[MeterId]) -> dict[MeterId, str]:
    """Return addresses that no other element has: beyond all numbers of ours, the next one free in the file's order."""
    free = _ADDRESSES - _FIRST_FOREIGN
    taken: set[int] = set()
    addresses = {}
    for meter_id in ids:
        place = next(at % free for at in range(meter_id, meter_id + free) if at % free not in taken)
        taken.add(place)
        addresses[meter_id] = _address(_FIRST_FOREIGN + place)
    return addresses


def _address(number: int) -> str:
    """Return the static address of an element: its number within 10.0.0.0/8."""
    return str(IPv4Address(int(IPv4Address("10.0.0.0")) + number % _ADDRESSES))
