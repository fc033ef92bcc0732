"""Backup and restore of an SQLite database: a consistent copy, which a restore puts in place of the file."""

import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy import create_engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from commonwatt.codec.packing import unpack_sound
from commonwatt.config.database_url import sqlite_url
from commonwatt.model.exceptions import ConfigError, StoreError
from commonwatt.model.ids import unsigned64
from commonwatt.model.units import EpochSeconds
from commonwatt.runtime.interrupts import uninterrupted
from commonwatt.runtime.service import only_one
from commonwatt.sqlite.damage import (
    REPLACED,
    check_pages,
    fails_check,
    make_ready,
    open_read_only,
    put_in_place,
)
from utility.assembly.backup.checks import (
    HOLDS,
    VERSION_TABLE,
    DamagedBackupError,
    NoBackupError,
    begin_anew,
    check_revision,
    made_beside,
    taken,
)
from utility.database.checks import check_rows, check_schema
from utility.database.database import DamagedDatabaseError, open_database, share
from utility.database.migrate import empty_database, revisions
from utility.readings.tables import compacted, part

log = logging.getLogger(__name__)

Tell = Callable[[int, int], None]  # called with (amount done, total)

_PAGES_AT_A_TIME = 4_096
_ROWS_AT_A_TIME = 20_000


def copy_running(path: Path, made: Path, tell: Tell) -> int:
    """Copy a database that may be in use, and check the copy; return how many damaged parts the copy has.

    Raises:
        ConfigError: There is no database.
        NoBackupError: The copy could not be restored.
        sqlite3.Error: The database can't be copied.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: there is no database")
    with share(path), closing(open_read_only(path)) as source, _damage_told():
        # A transaction: the copy is consistent, whatever is written meanwhile.
        source.execute("BEGIN")
        source.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        _copy(source, made, tell)
    return check_copy(made)


def check_copy(made: Path) -> int:
    """Check a whole copy; return how many of its parts are damaged.

    Raises:
        NoBackupError: The copy is incomplete, or no utility's database with a schema that this version supports.
    """
    with closing(open_read_only(made)) as connection, _damage_told():
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
        if VERSION_TABLE not in tables:
            raise NoBackupError("it has no tables of Commonwatt")
        revision = check_revision({str(v) for (v,) in connection.execute(f"SELECT version_num FROM {VERSION_TABLE}")})  # noqa: S608 - ours
        check_schema(connection, empty_database(revision))
        check_pages(connection, 0, ())
        if revision == revisions()[0]:  # Rows of an earlier schema are checked after their migration.
            with create_engine("sqlite://", creator=lambda: open_read_only(made), poolclass=NullPool).connect() as rows:
                check_rows(rows)
        return sum(_damaged(connection, table.name) for table in (part, compacted) if table.name in tables)


def restore_file(
    path: Path, source: Path, now: EpochSeconds, config: Path, *, replace: bool, tell: Tell
) -> Path | None:
    """Replace a database file by a copy; return the replaced file's new path, if there was one.

    Raises:
        ConfigError: The database is in use, or it has data and ``replace`` is not set.
        NoBackupError: The file is no backup.
        StoreError: The backup can't be restored; the database is unchanged.
    """
    try:
        with only_one(path, "a running utility, or one of its commands,"), made_beside(path) as fresh:
            if not replace and path.exists() and _holds_something(path):
                raise taken(str(path), source, config)
            with closing(open_read_only(source)) as connection, _damage_told():
                _copy(connection, fresh, tell)
            if damaged := check_copy(fresh):
                log.warning("%d of the backup's parts are damaged; each is quarantined when it is read", damaged)
            with (
                closing(open_database(sqlite_url(fresh), create=True, check=True)) as database,
                database.writes.begin() as writing,
            ):
                begin_anew(writing)
            with uninterrupted():
                make_ready(fresh, path)
                return put_in_place(path, now, REPLACED)
    except DamagedDatabaseError as error:
        raise DamagedBackupError(f"it is damaged ({error.__cause__})") from error
    except (OSError, sqlite3.Error, SQLAlchemyError) as error:
        raise StoreError(f"{source}: can't be restored: {error}; {path} is unchanged") from error


@contextmanager
def _damage_told() -> Iterator[None]:
    """Raise ``DamagedBackupError`` for a damaged file or one that is no database; pass on other errors."""
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:
        if isinstance(error, sqlite3.Error) and not fails_check(error):
            raise
        raise DamagedBackupError(f"it is damaged ({error})") from error


def _copy(source: sqlite3.Connection, made: Path, tell: Tell) -> None:
    with closing(sqlite3.connect(made, isolation_level=None)) as target:
        source.backup(target, pages=_PAGES_AT_A_TIME, progress=lambda _, left, total: tell(total - left, total))
        # A single file, without a log beside it.
        target.execute("PRAGMA journal_mode = DELETE")


def _damaged(connection: sqlite3.Connection, table: str) -> int:
    sql = f"SELECT m.id, p.record_type, p.quarter, p.payload FROM {table} AS p JOIN meter AS m ON m.no = p.meter_no"  # noqa: S608 - a name of ours
    rows = connection.execute(sql)
    damaged = 0
    while some := rows.fetchmany(_ROWS_AT_A_TIME):
        keys = [(unsigned64(row[0]), row[1], row[2]) for row in some]
        damaged += len(unpack_sound(keys, [row[3] for row in some])[1])
    return damaged


def _holds_something(path: Path) -> bool:
    """Return whether a file has data; an unreadable file may have some."""
    try:
        with closing(open_read_only(path)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
            ours = tables & {table.name for table in HOLDS}
            return bool(tables - ours) and any(
                connection.execute(f"SELECT 1 FROM {name} LIMIT 1").fetchone()  # noqa: S608 - names of ours
                for name in ours
            )
    except (sqlite3.Error, UnicodeDecodeError):  # The second: SQLite's error quotes a damaged name.
        return path.stat().st_size > 0
