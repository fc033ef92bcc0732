"""Backups of an SQLite database: a copy of one moment, that is put in the place of the file."""

import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from commonwatt.codec.packing import unpack_sound
from commonwatt.config.database_url import sqlite_url
from commonwatt.model.exceptions import ConfigError, StoreError
from commonwatt.model.units import EpochSeconds, unsigned64
from commonwatt.runtime.interrupts import uninterrupted
from commonwatt.runtime.service import only_one
from commonwatt.sqlite.damage import (
    REPLACED,
    DamagedError,
    check_pages,
    fails_check,
    make_ready,
    open_read_only,
    put_in_place,
)
from utility.store.backup.restore import (
    HOLDS,
    VERSION_TABLE,
    DamagedBackupError,
    NoBackupError,
    begin_anew,
    check_revision,
    made_beside,
    taken,
)
from utility.store.checks import check_schema, row_crc
from utility.store.database import DamagedDatabaseError, open_database, share
from utility.store.schema import empty_database, revisions
from utility.store.tables import compacted, meter, part

log = logging.getLogger(__name__)

Tell = Callable[[int, int], None]
"""Is told how much is done, of how much."""

_PAGES_AT_A_TIME = 4_096
_ROWS_AT_A_TIME = 20_000


def copy_running(path: Path, made: Path, tell: Tell) -> int:
    """Copy a database that may be in use, and check the copy; return how many damaged parts are in it.

    Raises:
        ConfigError: There is none.
        NoBackupError: What was copied could not be put back.
        sqlite3.Error: It can't be copied.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no database there")
    with share(path), closing(open_read_only(path)) as source, _damage_told():
        # All of it is of this moment, whatever is written meanwhile.
        source.execute("BEGIN")
        source.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        _copy(source, made, tell)
    return check_copy(made)


def check_copy(made: Path) -> int:
    """Look at a copy from its beginning to its end; return how many of its parts are damaged.

    Raises:
        NoBackupError: It is not whole, or not a utility's database of a schema that this version knows.
    """
    with closing(open_read_only(made)) as connection, _damage_told():
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
        if VERSION_TABLE not in tables:
            raise NoBackupError("it holds no tables of Commonwatt")
        revision = check_revision({str(v) for (v,) in connection.execute(f"SELECT version_num FROM {VERSION_TABLE}")})  # noqa: S608 - ours
        check_schema(connection, empty_database(revision))
        check_pages(connection, 0, ())
        if revision == revisions()[0]:  # Those of an earlier schema are looked at once they are of the newest.
            _check_meters(connection)
        return sum(_damaged(connection, table.name) for table in (part, compacted) if table.name in tables)


def restore_file(
    path: Path, source: Path, now: EpochSeconds, config: Path, *, replace: bool, tell: Tell
) -> Path | None:
    """Put a copy in the place of a file; return where that is now, if there was one.

    Raises:
        ConfigError: The database is in use, or it holds something and is not to be replaced.
        NoBackupError: It is no backup.
        StoreError: It can't be put back; what is there is as it was.
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
        raise StoreError(f"{source}: can't be put back: {error}; {path} is as it was") from error


@contextmanager
def _damage_told() -> Iterator[None]:
    """Say of what is damaged, or no database, that it is no backup; a full disk is another matter."""
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:
        if isinstance(error, sqlite3.Error) and not fails_check(error):
            raise
        raise DamagedBackupError(f"it is damaged ({error})") from error


def _copy(source: sqlite3.Connection, made: Path, tell: Tell) -> None:
    with closing(sqlite3.connect(made, isolation_level=None)) as target:
        source.backup(target, pages=_PAGES_AT_A_TIME, progress=lambda _, left, total: tell(total - left, total))
        # One file, with no log beside it.
        target.execute("PRAGMA journal_mode = DELETE")


def _check_meters(connection: sqlite3.Connection) -> None:
    names = [column.name for column in meter.c]
    for values in connection.execute(f"SELECT {', '.join(names)} FROM meter"):  # noqa: S608 - names of ours
        row = dict(zip(names, values, strict=True))
        if row_crc(meter, row) != row["crc"]:
            raise DamagedError(f"meter {row['label']} (number {row['no']}) is not what was registered")


def _damaged(connection: sqlite3.Connection, table: str) -> int:
    sql = f"SELECT m.id, p.record_type, p.quarter, p.payload FROM {table} AS p JOIN meter AS m ON m.no = p.meter_no"  # noqa: S608 - a name of ours
    rows = connection.execute(sql)
    damaged = 0
    while some := rows.fetchmany(_ROWS_AT_A_TIME):
        keys = [(unsigned64(row[0]), row[1], row[2]) for row in some]
        damaged += len(unpack_sound(keys, [row[3] for row in some])[1])
    return damaged


def _holds_something(path: Path) -> bool:
    """Tell whether there is something in a file; what can't be read may be something."""
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
