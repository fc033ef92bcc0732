"""Checks the database for damage: checksums of rows, the database's errors, the file's structure."""

import re
import sqlite3
import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Row, Table, select, true
from sqlalchemy.engine import Connection

from commonwatt import sqlite
from commonwatt.sqlite import DamagedError, check_pages, open_read_only
from utility.database.base import tables_with

_AWAY_STATES = ("08", "57P")
"""Beginnings of PostgreSQL's error codes for a connection that failed, and for a server that stops or starts."""

_FULL_STATES = {"53100"}
_DAMAGE_STATES = {"XX001", "XX002"}
"""PostgreSQL's error codes for a full disk, and for damaged data and a damaged index."""


@cache
def _checked(table: Table) -> list[str]:
    return [column.name for column in table.c if column.name not in ("no", "crc")]


def row_crc(table: Table, values: Mapping[str, Any]) -> int:
    """Return the checksum of a row: of all columns except ``crc`` and ``no``."""
    # A database may return a boolean, or a flag, as a plain number.
    columns = [int(value) if isinstance(value := values[name], int) else value for name in _checked(table)]
    return zlib.crc32(repr(columns).encode(errors="surrogatepass"))


def is_sound(table: Table, row: Row[Any]) -> bool:
    """Return whether a row of a table with ``crc`` matches its checksum."""
    return bool(row_crc(table, row._asdict()) == row.crc)


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
            named = [c.name for c in table.c if c.primary_key or c.name == "label"]
            said = ", ".join(f"{name} {getattr(row, name)}" for name in named)
            raise DamagedError(f"a row of {table.name} ({said}) fails its checksum")
        yield row


def check_rows(connection: Connection) -> None:
    """Check each row on which bills depend: meters, and the dates of meters and accounts.

    Raises:
        DamagedError: A row is damaged.
    """
    for table in tables_with("checked"):
        for _ in sound_rows(connection, table):
            pass


def is_damage(error: BaseException) -> bool:
    """Return whether an error means that the database itself is damaged."""
    cause = _cause(error)
    return sqlite.is_damage(cause) or getattr(cause, "sqlstate", None) in _DAMAGE_STATES


def is_full(error: BaseException) -> bool:
    """Return whether an error means that the disk is full."""
    cause = _cause(error)
    return sqlite.is_full(cause) or getattr(cause, "sqlstate", None) in _FULL_STATES


def is_away(error: BaseException) -> bool:
    """Return whether an error means that the server does not answer: it stopped, starts, or the connection failed."""
    cause = _cause(error)
    state = getattr(cause, "sqlstate", "")
    if state is None:  # No answer of the server came; SQLite's errors have no such attribute.
        return not {"OperationalError", "InterfaceError"}.isdisjoint(kind.__name__ for kind in type(cause).__mro__)
    return state.startswith(_AWAY_STATES)


def is_unknown(error: BaseException) -> bool:
    """Return whether an error means that a transaction may have been committed nevertheless."""
    return type(_cause(error)).__name__ == "UnknownCommitError"


def _cause(error: BaseException) -> BaseException:
    """Return the driver's own error."""
    return getattr(error, "orig", None) or error


def check_file(path: Path, empty: bytes) -> None:
    """Check the structure of an SQLite file with the present schema.

    Args:
        empty: An empty database with the present schema.

    Raises:
        sqlite3.Error: The file is damaged; see ``commonwatt.sqlite.fails_check``.
    """
    with closing(open_read_only(path)) as connection:
        check_schema(connection, empty)
        check_pages(connection, path.stat().st_size, tuple(table.name for table in tables_with("small")))


def check_schema(connection: sqlite3.Connection, empty: bytes) -> None:
    """Compare a schema with an empty database's: SQLite would accept a damaged definition as intended.

    Raises:
        DamagedError: The schemas differ.
    """
    with closing(sqlite3.connect(":memory:")) as made:
        made.deserialize(empty)
        if _definitions(connection) != _definitions(made):
            raise DamagedError("its schema is not what was written")


def _definitions(connection: sqlite3.Connection) -> list[tuple[str, str, str, list[str]]]:
    """Return each definition's words: a migration puts them in another order, and separates them otherwise."""
    found = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name")
    return [(*named, sorted(re.split(r'[\s,"]+', sql or ""))) for *named, sql in found]
