"""A list of residents to invite, as CSV, and the list of their links (pure)."""

import csv
import io
from collections.abc import Iterable, Iterator

from commonwatt.model.csv_text import line_of, text_of
from utility.access.roles import Role
from utility.access.rules import AccessFaultError, NewPerson

COLUMNS = ("account", "name", "display")  # the columns; `account` is needed, the others may be left out
MOST = 1_000  # most residents of one list

_MAX_ACCOUNT = 65_535


def read_residents(content: str) -> list[NewPerson]:
    """Return the residents that a list names; without a name, that of account 17 is ``account17``.

    Raises:
        AccessFaultError: The list has a mistake; names its row.
    """
    reader = csv.reader(io.StringIO(content.lstrip("\ufeff").strip()), skipinitialspace=True)
    try:
        rows = list(reader)
    except csv.Error as error:
        raise AccessFaultError(f"row {reader.line_num}: can't be read as CSV: {error}") from error
    if not rows or "account" not in (head := [cell.strip().lower() for cell in rows[0]]):
        raise AccessFaultError(f"row 1: has the names of the columns: {', '.join(COLUMNS)}; `account` is needed")
    if unknown := [name for name in head if name not in COLUMNS]:
        raise AccessFaultError(f"row 1: {unknown[0]!r:.40} is no column; there are {', '.join(COLUMNS)}")
    rows[1:] = [list(map(text_of, row)) for row in rows[1:]]
    if len(rows) - 1 > MOST:
        raise AccessFaultError(f"has {len(rows) - 1:,} residents; a list has at most {MOST:,}: make several")
    found = [_resident(place, dict(zip(head, row, strict=False))) for place, row in enumerate(rows[1:], 2) if row]
    if not found:
        raise AccessFaultError("row 2: there is no resident")
    return found


def links_table(links: Iterable[tuple[NewPerson, str]]) -> Iterator[str]:
    """Yield the lines of the list of links: account, name, link."""
    yield line_of(("account", "name", "link"))
    for one, link in links:
        yield line_of((one.account, one.name, link))


def _resident(row: int, cells: dict[str, str]) -> NewPerson:
    text = cells["account"].strip()
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else 0
    if not 1 <= number <= _MAX_ACCOUNT:
        raise AccessFaultError(f"row {row}, column account: {text!r:.20} is no account's number")
    name = cells.get("name", "").strip() or f"account{number}"
    display = cells.get("display", "").strip()
    return NewPerson(name=name, display=display, roles=frozenset({Role.RESIDENT}), account=number)
