"""The registry's dates as a table (CSV) that a clerk can keep in a spreadsheet: one fact a row (docs/settlement.md).

A table that is read becomes facts and faults; every fault names its row and column. ``importing`` applies the facts.
"""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from commonwatt.model.text import line_of, text_of
from commonwatt.model.units import AccountNumber, MeterId, Quarter, parse_id
from commonwatt.town.town import MAX_ACCOUNT, Function
from utility.registry.accounts import DatedRegistry, Installed
from utility.registry.changes import date_text, parse_quarter

COLUMNS = ("what", "microgrid", "place", "building", "meter", "account", "from", "to", "value")
"""The columns, in the order in which they are written; a file may have them in any."""

_KINDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "meter": (("meter", "place"), ("microgrid", "building", "from", "to")),
    "account": (("account",), ()),
    "holder": (("account",), ("meter", "microgrid", "place", "from", "to")),
    "tariff": (("account", "value"), ("from",)),
    "minimum": (("account", "value"), ("from",)),
    "weight": (("account", "value"), ("from",)),
}
"""By what a row says: the cells that it needs, and those that it may have."""

_LONGEST = {"what": 16, "microgrid": 16, "place": 200, "building": 200, "value": 32}

MAX_ROWS = 200_000  # a whole town has 41,000


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A mistake in a table."""

    row: int  # its row, from 1, which has the names of the columns
    column: str = ""  # its column; empty: the row
    text: str  # the mistake, and what to write instead

    def __str__(self) -> str:
        where = f"row {self.row}, column {self.column}" if self.column else f"row {self.row}"
        return f"{where}: {self.text}"


@dataclass(frozen=True, kw_only=True)
class Fact:
    """A row of a table."""

    row: int  # its number, from 1
    what: str  # what it says: a key of the kinds of rows
    meter: MeterId | None = None  # the meter; ``None``: none is named
    microgrid: str = ""  # the microgrid; empty: none is named
    place: str = ""  # the place
    building: str = ""  # the place of the building that the meter is in; empty: in none
    account: AccountNumber | None = None  # the account; 0: nobody; ``None``: none is named
    start: Quarter | None = None  # the first quarter; ``None``: from the beginning
    end: Quarter | None = None  # the quarter after the last; ``None``: it goes on
    value: str = ""  # a tariff's name, a minimum in percent, or a weight


def read_table(content: bytes, zone: ZoneInfo) -> tuple[list[Fact], list[Fault]]:
    """Return the facts of a table's good rows, and the faults of the others.

    Args:
        content: The file: CSV with commas, semicolons or tabs.
        zone: Times without an offset are its local times.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = content[: error.start].count(b"\n") + 1
        return [], [Fault(row=row, text="is not UTF-8: save the table as CSV UTF-8")]
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    faults: list[Fault] = []
    try:
        names = [name.strip().lower() for name in next(rows, [])]
        faults += _head_faults(names)
        return ([] if faults else list(_facts(names, rows, zone, faults))), faults
    except csv.Error as error:
        return [], [*faults, Fault(row=rows.line_num or 1, text=f"can't be read as CSV: {error}")]


def _head_faults(names: Sequence[str]) -> Iterator[Fault]:
    known = ", ".join(COLUMNS)
    if "what" not in names:
        yield Fault(row=1, text=f"must name the columns, `what` among them; they are: {known}")
        return
    for place, name in enumerate(names, 1):
        if name and name not in COLUMNS:
            yield Fault(row=1, column=name, text=f"is not one of the columns: {known}")
        if name and name in names[: place - 1]:
            yield Fault(row=1, column=name, text="is there twice")


def _facts(names: Sequence[str], rows: Iterable[Sequence[str]], zone: ZoneInfo, faults: list[Fault]) -> Iterator[Fact]:
    for number, row in enumerate(rows, 2):
        if number > MAX_ROWS:
            faults.append(Fault(row=number, text=f"is one too many: a table has at most {MAX_ROWS} rows"))
            return
        cells = [text_of(cell.strip()) for cell in row]
        if not any(cells) or cells[0].startswith("#"):
            continue
        if any(cells[len(names) :]):
            faults.append(Fault(row=number, text="has more cells than there are columns"))
            continue
        named = {name: cell for name, cell in zip(names, cells, strict=False) if name and cell}
        found, wrong = _fact(number, named, zone)
        faults += wrong
        if found is not None and not wrong:
            yield found


def _fact(number: int, cells: dict[str, str], zone: ZoneInfo) -> tuple[Fact | None, list[Fault]]:
    what = cells.pop("what", "").lower()
    if what not in _KINDS:
        told = f"{what!r} is not one of: {', '.join(_KINDS)}"
        return None, [Fault(row=number, column="what", text=told)]
    needs, takes = _KINDS[what]
    faults = [
        Fault(row=number, column=name, text=f"is needed in a `{what}` row") for name in needs if name not in cells
    ]
    faults += [
        Fault(row=number, column=name, text=f"has no meaning in a `{what}` row; leave it empty")
        for name in cells
        if name not in needs + takes
    ]
    values: dict[str, object] = {}
    for name, cell in cells.items():
        try:
            values[_FIELDS.get(name, name)] = _value(what, name, cell, zone)
        except ValueError as error:
            faults.append(Fault(row=number, column=name, text=str(error)))
    if faults:
        return None, faults
    fact = Fact(row=number, what=what, **values)  # type: ignore[arg-type]
    if fact.end is not None and fact.end <= (fact.start or 0):
        faults.append(Fault(row=number, column="to", text=f"{cells['to']} is not after `from`"))
    if what == "holder" and fact.meter is None and not (fact.microgrid and fact.place):
        faults.append(Fault(row=number, column="meter", text="is needed, or else microgrid and place"))
    return fact, faults


_FIELDS = {"from": "start", "to": "end"}


def _value(what: str, name: str, cell: str, zone: ZoneInfo) -> object:
    if name in ("from", "to"):
        return parse_quarter(cell, zone)
    if name == "meter":
        return _meter(cell)
    if name == "account":
        return _whole(cell, 0 if what == "holder" else 1, MAX_ACCOUNT)
    if len(cell) > _LONGEST[name]:
        raise ValueError(f"has more than {_LONGEST[name]} characters")
    if not cell.isprintable():
        raise ValueError(f"{cell!r} has characters that can't be shown")
    if name == "value" and what == "minimum":
        _whole(cell, 0, 100)
    if name == "value" and what == "weight":
        _whole(cell, 1, 1000)
    return cell


def _meter(cell: str) -> MeterId:
    meter = parse_id(cell)
    if meter is None:
        more = ": a spreadsheet shows long numbers so; give the column the format Text" if "E+" in cell.upper() else ""
        raise ValueError(f"{cell!r} is no meter's id{more}")
    return meter


def _whole(cell: str, least: int, most: int) -> int:
    number = int(cell) if cell.isascii() and cell.isdecimal() and len(cell) <= 9 else -1
    if not least <= number <= most:
        raise ValueError(f"{cell!r} is no whole number from {least} to {most}")
    return number


# Writing


def write_table(
    registry: DatedRegistry, zone: ZoneInfo, wants: Callable[[Installed], bool] | None = None
) -> Iterator[str]:
    """Yield the lines of the table of some meters and the accounts that have or had them; boundary meters are left out.

    Args:
        zone: Local time of the dates.
        wants: Which meters; ``None``: all, and all accounts.
    """
    places = [m for _, m in sorted(registry.meters.items()) if m.function is not Function.BOUNDARY]
    meters = [m for m in places if wants is None or wants(m)]
    numbers = registry.accounts.keys() if wants is None else {held.account for m in meters for held in m.holdings}
    accounts = [registry.accounts[number] for number in sorted(numbers)]
    yield _line(dict(zip(COLUMNS, COLUMNS, strict=True)))
    for one in accounts:
        yield _line({"what": "account", "account": one.number})
    for meter in meters:
        dates = _dates(meter.start, meter.end, zone)
        yield _line({"what": "meter", **_where(meter), "building": meter.building or "", **dates})
        for held in meter.holdings:
            dates = _dates(held.start, held.end, zone)
            yield _line({"what": "holder", **_where(meter), "account": held.account, **dates})
    for one in accounts:
        for what, values in one.terms:
            for dated in values:
                dates = _dates(dated.start, None, zone)
                yield _line({"what": what, "account": one.number, "value": dated.value, **dates})


def _where(meter: Installed) -> dict[str, object]:
    return {"microgrid": meter.microgrid, "place": meter.place, "meter": meter.id}


def _dates(start: Quarter | None, end: Quarter | None, zone: ZoneInfo) -> dict[str, object]:
    found = (("from", start or None), ("to", end))
    return {name: date_text(quarter, zone) for name, quarter in found if quarter is not None}


def _line(cells: dict[str, object]) -> str:
    return line_of((cells.get(name) for name in COLUMNS), "\n")
