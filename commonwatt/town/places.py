"""A town's places as a table (CSV) beside its town file: a row for each place, every number stated.

Nothing follows from the position of a row: a house that is added in the middle changes no number.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError, model_validator

from commonwatt.config.faults import plain
from commonwatt.config.settings import MicrogridName, Settings
from commonwatt.model.csv_text import line_of, text_of
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import MilliwattHours

_MOST_FAULTS = 100  # faults of a table that are reported; further ones are counted

_MeterId = Field(None, ge=1, lt=2**64)


class PlaceRow(Settings):
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


COLUMNS = tuple(PlaceRow.model_fields)  # the columns of the table


def read_places(path: Path) -> list[PlaceRow]:
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


_Placed = tuple[int, PlaceRow]


def _places(names: Sequence[str], rows: Sequence[Sequence[str]], faults: list[str]) -> Iterator[_Placed]:
    for number, row in enumerate(rows, 2):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(names):
            faults.append(f"row {number}: has {len(row)} cells, but there are {len(names)} columns")
            continue
        cells = {name: text_of(cell.strip()) for name, cell in zip(names, row, strict=True) if cell.strip()}
        try:
            yield number, PlaceRow.model_validate(cells)
        except ValidationError as error:
            for fault in error.errors():
                column = f", column {fault['loc'][0]}" if fault["loc"] else ""
                value = f" (found {fault['input']!r})" if column and fault["type"] != "missing" else ""
                faults.append(f"row {number}{column}: {plain(fault)}{value}")


def _clashes(places: Sequence[_Placed]) -> Iterator[str]:
    """Yield what is there twice, and what contradicts another row."""
    seen: dict[tuple[str, object], int] = {}
    microgrids: dict[str, PlaceRow] = {}
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


def _lacking(places: Sequence[_Placed], microgrids: Mapping[str, PlaceRow]) -> Iterator[str]:
    buildings = {(place.microgrid, place.place) for _, place in places if place.function == "building"}
    for row, place in places:
        if place.building is not None and (place.microgrid, place.building) not in buildings:
            yield f"row {row}, column building: {place.building!r} is no building in {place.microgrid}"
    bounded = [place.microgrid for _, place in places if place.function == "boundary"]
    for name in microgrids:
        if (rows := bounded.count(name)) != 1:
            yield f"microgrid {name} has {rows} rows of its boundary, and needs one"


def places_text(places: Sequence[PlaceRow]) -> Iterator[str]:
    """Yield the lines of the table that ``read_places`` reads."""
    yield line_of(COLUMNS, "\n")
    for place in places:
        yield line_of((_cell(getattr(place, name)) for name in COLUMNS), "\n")


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value
