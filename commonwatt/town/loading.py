"""A town file as a town: its microgrids, counted or stated in a table (CSV), and its further meters.

A town's places as a table (CSV) beside its town file: a row for each place, every number stated.
Nothing follows from the position of a row: a house that is added in the middle changes no number.
"""

import csv
import io
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError, model_validator

from commonwatt.config.files import check_model, plain, read_toml
from commonwatt.config.settings import MicrogridName, Settings
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.records import RecordType
from commonwatt.model.text import line_of, text_of
from commonwatt.model.units import ControllerId, MeterId, MicrogridId, MilliwattHours
from commonwatt.protocol.topics import MICROGRID_PATTERN
from commonwatt.town.town import (
    CONTROLLER_STEP,
    MAX_ACCOUNT,
    MAX_MICROGRIDS,
    RESERVED,
    Battery,
    Direction,
    Function,
    Meter,
    MeterTable,
    Microgrid,
    MicrogridTable,
    Town,
    TownFile,
    address_of,
    addresses_of,
    average_w,
    foreign_addresses,
)

_MOST_FAULTS = 100  # faults of a table that are reported; further ones are counted

_MeterId = Field(None, ge=1, lt=2**64)


class TownPlaceRow(Settings):
    """A place with its meters."""

    microgrid: MicrogridName  # its microgrid
    number: int = Field(ge=1, le=1000)  # the number of the microgrid's controller
    kind: Literal["residential", "apartment", "public"]  # the kind of the microgrid
    place: str = Field(min_length=1, max_length=200)  # its name, unique in the microgrid
    # The kind of the place; each microgrid has one ``boundary``.
    function: Literal["house", "apartment", "building", "hospital", "police", "fire", "solar_farm", "boundary"]
    building: str | None = Field(None, max_length=200)  # the place of the building that it is in; ``None``: in none
    account: int = Field(0, ge=0, lt=2**16)  # the account of its energy; 0: none
    outgoing: int | None = _MeterId  # the id of its outgoing meter; ``None``: it has none
    incoming: int | None = _MeterId  # the id of its incoming meter
    amps: int = Field(ge=1, le=1_000_000)  # the service of its meters
    # The capacity of its battery, milliwatt-hours, at the outgoing meter; ``None``: no battery.
    battery_mwh: MilliwattHours | None = Field(None, gt=0, le=2**53)
    # The sharing minimum that the emulated householder chooses, percent.
    minimum: int | None = Field(None, ge=0, le=100)
    push: bool = True  # whether its meters' switches are set to send by themselves (M4)

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.outgoing is None and self.incoming is None:
            raise ValueError("has no meter: give outgoing, incoming or both")
        if self.outgoing == self.incoming:
            raise ValueError("outgoing and incoming are the same meter: a meter measures one direction")
        if self.battery_mwh is not None and (self.outgoing is None or self.minimum is None):
            raise ValueError("battery_mwh needs an outgoing meter and a minimum")
        if self.function == "boundary" and (self.account or None in (self.outgoing, self.incoming)):
            raise ValueError("a boundary has two meters and no account")
        return self


COLUMNS = tuple(TownPlaceRow.model_fields)  # the columns of the table


def read_places(path: Path) -> list[TownPlaceRow]:
    """Read the table of a town's places."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: can't be read as CSV in UTF-8: {error}") from error
    names = [name.strip() for name in rows[0]] if rows else []
    if sorted(names) != sorted(COLUMNS):
        raise ConfigError(f"{path}: row 1 must name the columns: {','.join(COLUMNS)}")
    faults: list[str] = []
    found = list(_places(names, rows[1:], faults))
    faults += _clashes(found)
    if faults:
        more = len(faults) - _MOST_FAULTS
        told = faults[:_MOST_FAULTS] + ([f"and {more} more"] if more > 0 else [])
        raise ConfigError("\n".join(f"{path}: {fault}" for fault in told))
    return [place for _, place in found]


_Placed = tuple[int, TownPlaceRow]


def _places(names: Sequence[str], rows: Sequence[Sequence[str]], faults: list[str]) -> Iterator[_Placed]:
    for number, row in enumerate(rows, 2):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(names):
            faults.append(f"row {number}: has {len(row)} cells, but there are {len(names)} columns")
            continue
        cells = {name: text_of(cell.strip()) for name, cell in zip(names, row, strict=True) if cell.strip()}
        try:
            yield number, TownPlaceRow.model_validate(cells)
        except ValidationError as error:
            for fault in error.errors():
                column = f", column {fault['loc'][0]}" if fault["loc"] else ""
                value = f" (found {fault['input']!r})" if column and fault["type"] != "missing" else ""
                faults.append(f"row {number}{column}: {plain(fault)}{value}")


def _clashes(places: Sequence[_Placed]) -> Iterator[str]:
    """Yield what is there twice, and what contradicts another row."""
    seen: dict[tuple[str, object], int] = {}
    microgrids: dict[str, TownPlaceRow] = {}
    numbers: dict[int, str] = {}
    for row, place in places:
        once: list[tuple[str, str, object]] = [("place", "place", (place.microgrid, place.place))]
        once += [(name, "meter", getattr(place, name)) for name in ("outgoing", "incoming")]
        once += [("account", "account", place.account or None)]
        for column, what, value in once:
            if value is not None and (other := seen.setdefault((what, value), row)) != row:
                yield f"row {row}, column {column}: row {other} has this {what} too"
        first = microgrids.setdefault(place.microgrid, place)
        if (first.number, first.kind) != (place.number, place.kind):
            yield f"row {row}, column number: microgrid {place.microgrid} is {first.kind} with number {first.number}"
        if numbers.setdefault(place.number, place.microgrid) != place.microgrid:
            yield f"row {row}, column number: is that of microgrid {numbers[place.number]}"
    yield from _lacking(places, microgrids)


def _lacking(places: Sequence[_Placed], microgrids: Mapping[str, TownPlaceRow]) -> Iterator[str]:
    buildings = {(place.microgrid, place.place) for _, place in places if place.function == "building"}
    for row, place in places:
        if place.building is not None and (place.microgrid, place.building) not in buildings:
            yield f"row {row}, column building: {place.building!r} is no building in {place.microgrid}"
    bounded = [place.microgrid for _, place in places if place.function == "boundary"]
    for name in microgrids:
        if (rows := bounded.count(name)) != 1:
            yield f"microgrid {name} has {rows} rows of its boundary, and needs one"


def places_text(places: Sequence[TownPlaceRow]) -> Iterator[str]:
    """Yield the lines of the table that ``read_places`` reads."""
    yield line_of(COLUMNS, "\n")
    for place in places:
        yield line_of((_cell(getattr(place, name)) for name in COLUMNS), "\n")


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value


_BOUNDARY_AMPS = 4000


class Builder:
    """Numbers the elements of a town in the order of its file."""

    def __init__(self, file: TownFile) -> None:
        self.file = file
        self.microgrids: dict[str, list[TownPlaceRow]] = {}  # the places of each microgrid so far
        self.kinds: dict[str, str] = {}  # the kind of each
        self.accounts = 0  # the highest number of an account so far

    def add(self, name: str, table: MicrogridTable) -> None:
        """Append a microgrid."""
        self._rows = self.microgrids[name] = []
        self._name, self._table, self._number = name, table, len(self.microgrids)
        self.kinds[name] = table.kind
        self._last_id = self._number * CONTROLLER_STEP
        getattr(self, f"_{table.kind}")()
        if not table.boundary:
            return
        # The boundary's service is the sum of the incoming services behind it, at least _BOUNDARY_AMPS.
        amps = max(_BOUNDARY_AMPS, sum(row.amps for row in self._rows if row.incoming is not None))
        self._place(Function.BOUNDARY, "boundary", amps=amps)

    def _residential(self) -> None:
        for n in range(self._table.houses):
            battery = self._day_of(Function.HOUSE), (25, 50, 75)[(self._number + n) % 3]
            self._place(Function.HOUSE, f"house {n + 1}", account=self._next_account(), battery=battery)

    def _apartment(self) -> None:
        count = self._table.apartments
        for b in range(self._table.buildings):
            building, battery = f"building {b + 1}", (self._day_of(Function.APARTMENT) * count, 50)
            self._place(Function.BUILDING, building, incoming=False, battery=battery, amps=100 * count)
            for a in range(count):
                name, account = f"{building} apartment {a + 1}", self._next_account()
                self._place(Function.APARTMENT, name, outgoing=False, account=account, amps=100, building=building)

    def _public(self) -> None:
        services = (Function.HOSPITAL, Function.POLICE, Function.FIRE)
        for function in services:
            self._place(function, function.value, outgoing=False, account=self._next_account(), amps=2000)
        battery = sum(self._day_of(function) for function in services), 75
        self._place(Function.SOLAR_FARM, "solar farm", incoming=False, battery=battery, amps=4000)

    def _place(
        self,
        function: Function,
        name: str,
        *,
        outgoing: bool = True,
        incoming: bool = True,
        account: int = 0,
        battery: tuple[MilliwattHours | None, int | None] = (None, None),
        amps: int = 200,
        building: str | None = None,
    ) -> None:
        """Append the next place; ``battery`` is its capacity and its minimum, percent."""
        # The switches are spread evenly over the places, so that any share is met from the start.
        places, share = len(self._rows) + 1, self._table.push_share
        push = function is Function.BOUNDARY or int(places * share) > int((places - 1) * share)
        capacity, minimum = battery
        self._rows.append(
            TownPlaceRow.model_construct(  # Checked, as what it is made of was.
                microgrid=self._name,
                number=self._number,
                kind=self._table.kind,
                place=name,
                function=function.value,  # type: ignore[arg-type]
                building=building,
                account=account,
                outgoing=self._next_id() if outgoing else None,
                incoming=self._next_id() if incoming else None,
                amps=amps,
                battery_mwh=capacity,
                minimum=minimum,
                push=push,
            )
        )

    def _day_of(self, function: Function) -> MilliwattHours:
        return average_w(self.file.town, function) * 24 * 1000

    def _next_account(self) -> int:
        self.accounts += 1
        return self.accounts

    def _next_id(self) -> MeterId:
        self._last_id += 1
        return self._last_id


def microgrids_of(places: Sequence[TownPlaceRow], *, stated: bool) -> dict[str, Microgrid]:
    """Return the microgrids of checked places, by number; the meters of each by id."""
    addresses = addresses_of([i for place in places for i in (place.outgoing, place.incoming) if i is not None])
    rows_by_microgrid: dict[str, list[TownPlaceRow]] = {}
    for place in places:
        rows_by_microgrid.setdefault(place.microgrid, []).append(place)
    made = [
        Microgrid(
            id=name,
            number=rows[0].number,
            kind=rows[0].kind,
            address=address_of(rows[0].number),
            meters=tuple(
                sorted((m for row in rows for m in _meters(row, addresses, stated=stated)), key=lambda meter: meter.id)
            ),
        )
        for name, rows in rows_by_microgrid.items()
    ]
    return {microgrid.id: microgrid for microgrid in sorted(made, key=lambda microgrid: microgrid.number)}


def _meters(place: TownPlaceRow, addresses: dict[MeterId, str], *, stated: bool) -> Iterator[Meter]:
    battery = None
    if place.battery_mwh is not None and place.minimum is not None:
        battery = Battery(capacity=place.battery_mwh, minimum_percent=place.minimum)
    for direction, meter_id in ((Direction.OUTGOING, place.outgoing), (Direction.INCOMING, place.incoming)):
        if meter_id is None:
            continue
        own = battery if direction is Direction.OUTGOING else None
        types = (RecordType.THROUGH,)
        yield Meter(
            id=meter_id,
            microgrid=place.microgrid,
            address=addresses[meter_id],
            location=place.place,
            function=Function(place.function),
            direction=direction,
            account=place.account,
            record_types=types if own is None else (RecordType.GENERATION, RecordType.STORED, *types),
            service_amps=place.amps,
            battery=own,
            push=place.push,
            building=place.building,
            stated=stated,
        )


def places_of_town(town: Town) -> list[TownPlaceRow]:
    """Return the places of a town, without meters of other makers, with the numbers that they have."""
    meters_by_place: dict[tuple[str, str], list[Meter]] = {}
    for meter in town.meters:
        if meter.emulated:
            meters_by_place.setdefault((meter.microgrid, meter.location), []).append(meter)
    return [_row(town.microgrids[name], meters) for (name, _), meters in meters_by_place.items()]


def _row(microgrid: Microgrid, meters: Sequence[Meter]) -> TownPlaceRow:
    ids = {meter.direction: meter.id for meter in meters}
    first = meters[0]
    battery = next((meter.battery for meter in meters if meter.battery is not None), None)
    return TownPlaceRow(
        microgrid=microgrid.id,
        number=microgrid.number,
        kind=microgrid.kind,
        place=first.location,
        function=first.function.value,
        building=first.building,
        account=first.account,
        outgoing=ids.get(Direction.OUTGOING),
        incoming=ids.get(Direction.INCOMING),
        amps=first.service_amps,
        battery_mwh=None if battery is None else battery.capacity,
        minimum=None if battery is None else battery.minimum_percent,
        push=first.push,
    )


WHOLE_TOWN = Path(__file__).with_name("centertown.toml")  # the town of the specification: 802 microgrids (T1 to T4)


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
    """Return the town of a file; ``path`` is named in errors.

    Raises:
        ConfigError: Two elements have one name, or there are too many.
    """
    if file.town.places is not None:
        return _with_further(file, path, microgrids_of(read_places(path.parent / file.town.places), stated=True))
    builder = Builder(file)
    for table in file.microgrid:
        for name in names_of(table):
            if name in builder.microgrids:
                raise ConfigError(f"{path}: microgrid {name} is there twice; give each [[microgrid]] its own id")
            if not re.fullmatch(MICROGRID_PATTERN, name):
                raise ConfigError(f"{path}: microgrid {name}: is too long a name; at most 16 characters")
            builder.add(name, table)
    if builder.accounts > MAX_ACCOUNT:
        raise ConfigError(f"{path}: {builder.accounts} accounts, more than records can name ({MAX_ACCOUNT})")
    if (number := len(builder.microgrids)) > MAX_MICROGRIDS:
        raise ConfigError(f"{path}: {number} microgrids, more than there are addresses for ({MAX_MICROGRIDS})")
    found = microgrids_of([place for places in builder.microgrids.values() for place in places], stated=False)
    # A microgrid may have meters of other makers alone.
    microgrids = {
        name: found.get(name) or Microgrid(id=name, number=n, kind=kind, address=address_of(n), meters=())
        for n, (name, kind) in enumerate(builder.kinds.items(), 1)
    }
    return _with_further(file, path, microgrids)


def _with_further(file: TownFile, path: Path, microgrids: dict[str, Microgrid]) -> Town:
    """Return the town with the meters of [[meter]] tables."""
    if taken := RESERVED & microgrids.keys():
        raise ConfigError(f"{path}: microgrid {min(taken)} has the name of a folder of the utility; give it another id")
    known = {meter.id: meter for microgrid in microgrids.values() for meter in microgrid.meters}
    addresses = foreign_addresses([m.id for m in file.meter], {m.address for m in known.values() if m.stated})
    added: dict[str, list[Meter]] = {name: [] for name in microgrids}
    by_replaced: dict[MeterId, MeterId] = {}
    for table in file.meter:
        if table.microgrid not in added:
            raise ConfigError(f"{path}: [[meter]] names microgrid {table.microgrid}, which is not in this file")
        if table.id in known:
            raise ConfigError(f"{path}: meter {table.id} is there twice; give the [[meter]] another id")
        replaced = None if table.replaces is None else known.get(table.replaces)
        if table.replaces is not None and (replaced is None or replaced.microgrid != table.microgrid):
            raise ConfigError(
                f"{path}: [[meter]] {table.id} replaces meter {table.replaces}, which {table.microgrid} does not have"
            )
        if replaced is not None and (other := by_replaced.setdefault(replaced.id, table.id)) != table.id:
            raise ConfigError(
                f"{path}: [[meter]] {other} and [[meter]] {table.id} both replace meter {replaced.id}; one meter "
                f"replaces one: if {table.id} came after {other}, write replaces = {other}"
            )
        known[table.id] = _foreign(table, addresses[table.id], replaced)
        added[table.microgrid].append(known[table.id])
    return Town(
        table=file.town,
        microgrids={
            name: replace(microgrid, meters=(*microgrid.meters, *added[name])) for name, microgrid in microgrids.items()
        },
        collectors=_collectors(file, path, microgrids),
    )


def _collectors(
    file: TownFile, path: Path, microgrids: Collection[MicrogridId]
) -> dict[MicrogridId, tuple[ControllerId, ...]]:
    """Return the collectors of each microgrid that has some."""
    collectors: dict[MicrogridId, tuple[ControllerId, ...]] = {}
    for table in file.collectors:
        if unknown := [name for name in (table.microgrid, *table.controllers) if name not in microgrids]:
            raise ConfigError(f"{path}: [[collectors]] names {unknown[0]}, which is not in this file")
        if table.microgrid in collectors or len({table.microgrid, *table.controllers}) <= len(table.controllers):
            raise ConfigError(f"{path}: [[collectors]] of {table.microgrid}: names a controller or a microgrid twice")
        collectors[table.microgrid] = table.controllers
    return collectors


def _foreign(table: MeterTable, address: str, replaced: Meter | None) -> Meter:
    if replaced is not None:
        return replace(replaced, id=table.id, address=address, replaces=replaced.id, stated=True)
    battery = None
    if table.battery_capacity_mwh is not None:
        battery = Battery(capacity=table.battery_capacity_mwh, minimum_percent=50)
    return Meter(
        id=table.id,
        microgrid=table.microgrid,
        address=address,
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
