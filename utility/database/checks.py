"""Checks the database for damage: checksums of rows, the database's errors, the file's structure."""

import logging
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Row, Table, select, true
from sqlalchemy.engine import Connection

from commonwatt.sqlite import damage
from commonwatt.sqlite.damage import DamagedError, check_pages, open_read_only
from utility.readings.tables import event
from utility.registry.tables import account_term, holding, installed, meter

_AWAY_STATES = ("08", "57P")
"""Beginnings of PostgreSQL's error codes for a connection that failed, and for a server that stops or starts."""

_FULL_STATES = {"53100"}
_DAMAGE_STATES = {"XX001", "XX002"}
"""PostgreSQL's error codes for a full disk, and for damaged data and a damaged index."""

# Small tables in any town; the parts are too many for a check at every start, and have checksums.
_SMALL = (
    "controller",
    "meter",
    "series",
    "gap",
    "held",
    "research_agreement",
    "research_log",
    "research_reader",
    "research_release",
    "command",
    "control_change",
    "control_target",
    "control_version",
    "setting",
    "tally",
    "period",
    "job",
    "plant_quarter",
    "purchase",
    "ration",
    "installed",
    "holding",
    "account",
    "account_term",
    "rates_version",
    "bill_run",
    "rates_told",
)

log = logging.getLogger(__name__)


def row_crc(table: Table, values: Mapping[str, Any]) -> int:
    """Return the checksum of a row: of all columns except ``crc`` and ``no``.

    Args:
        values: The row, by column.
    """
    columns = [values[column.name] for column in table.c if column.name not in ("no", "crc")]
    # A database may return a boolean, or a flag, as a plain number.
    text = repr([int(value) if isinstance(value, int) else value for value in columns])
    return zlib.crc32(text.encode(errors="surrogatepass"))


def is_sound(table: Table, row: Row[Any]) -> bool:
    """Return whether a row of a table with ``crc`` matches its checksum."""
    return bool(row_crc(table, {column.name: getattr(row, column.name) for column in table.c}) == row.crc)


def sound_events(rows: Iterable[Row[Any]], tell: Callable[[Row[Any]], object] = lambda _: None) -> Iterator[Row[Any]]:
    """Yield the rows of ``event`` that match their checksums; log the others, and call ``tell`` with each."""
    for row in rows:
        if is_sound(event, row):
            yield row
        else:
            log.error("event %s of meter number %s is damaged and left out", row.record_id, row.meter_no)
            tell(row)


def sound_rows(connection: Connection, table: Table, which: ColumnElement[bool] | None = None) -> Iterator[Row[Any]]:
    """Yield the rows of a table with ``crc``, by key.

    Args:
        which: The condition of the rows; ``None``: all.

    Raises:
        DamagedError: A row is damaged.
    """
    statement = select(table).where(true() if which is None else which)
    for row in connection.execute(statement.order_by(*table.primary_key)):
        if not is_sound(table, row):
            raise DamagedError(f"a row of {table.name} fails its checksum: {tuple(row)}")
        yield row


def check_meters(connection: Connection) -> None:
    """Check the registered meters.

    Raises:
        DamagedError: A meter's row is damaged.
    """
    for row in connection.execute(select(meter)):
        if not is_sound(meter, row):
            raise DamagedError(f"meter {row.label} (number {row.no}) fails its checksum")


def check_registry(connection: Connection) -> None:
    """Check the registered meters, and the dates of meters and accounts.

    Raises:
        DamagedError: A row is damaged.
    """
    check_meters(connection)
    for table in (installed, holding, account_term):
        for _ in sound_rows(connection, table):
            pass


def is_damage(error: BaseException) -> bool:
    """Return whether an error means that the database itself is damaged."""
    cause = _cause(error)
    return damage.is_damage(cause) or getattr(cause, "sqlstate", None) in _DAMAGE_STATES


def is_full(error: BaseException) -> bool:
    """Return whether an error means that the disk is full."""
    cause = _cause(error)
    return damage.is_full(cause) or getattr(cause, "sqlstate", None) in _FULL_STATES


def is_away(error: BaseException) -> bool:
    """Return whether an error means that the server does not answer: it stopped, starts, or the connection failed."""
    cause = _cause(error)
    state = getattr(cause, "sqlstate", "")
    if state is None:  # No answer of the server came; SQLite's errors have no such attribute.
        return type(cause).__name__ in ("OperationalError", "InterfaceError")
    return state.startswith(_AWAY_STATES)


def _cause(error: BaseException) -> BaseException:
    """Return the driver's own error."""
    return getattr(error, "orig", None) or error


def check_file(path: Path, empty: bytes) -> None:
    """Check the structure of an SQLite file with the present schema.

    Args:
        empty: An empty database with the present schema.

    Raises:
        sqlite3.Error: The file is damaged; see ``commonwatt.sqlite.damage.fails_check``.
    """
    with closing(open_read_only(path)) as connection:
        check_schema(connection, empty)
        check_pages(connection, path.stat().st_size, _SMALL)


def check_schema(connection: sqlite3.Connection, empty: bytes) -> None:
    """Compare a schema with an empty database's: SQLite would accept a damaged definition as intended.

    Raises:
        DamagedError: The schemas differ.
    """
    sql = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name"
    with closing(sqlite3.connect(":memory:")) as made:
        made.deserialize(empty)
        if connection.execute(sql).fetchall() != made.execute(sql).fetchall():
            raise DamagedError("its schema is not what was written")
