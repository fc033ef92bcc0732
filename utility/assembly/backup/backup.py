"""Backup and restore of an SQLite database: a consistent copy, checked, which may take the place of its file.

A restored database lacks data acknowledged since the backup. It gets a new store id, by which every gateway notices the
restore and sends its backup again.
"""

import logging
import os
import shlex
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
from commonwatt.model.units import EpochSeconds, unsigned64
from commonwatt.runtime.files import sync_folder
from commonwatt.runtime.service import only_one, uninterrupted
from commonwatt.sqlite import (
    REPLACED,
    check_pages,
    delete_database,
    fails_check,
    made_beside,
    make_ready,
    open_read_only,
    put_in_place,
)
from utility.access.store.access import end_logins
from utility.assembly import tables  # noqa: F401 - the check is of all rooms' tables
from utility.database.checks import check_rows, check_schema
from utility.database.database import DamagedDatabaseError, hold, new_store_id, open_database
from utility.database.migrate import empty_database, revisions
from utility.readings.store.batches import parts_of
from utility.readings.tables import batch, compacted, dead_letter, event, part
from utility.registry.tables import meter

Tell = Callable[[int, int], None]  # called with (amount done, total)

_VERSION_TABLE = "alembic_version"  # table with the schema's revision
_PAGES_AT_A_TIME = 4_096
_ROWS_AT_A_TIME = 20_000


class NoBackupError(Exception):
    """A file that can't be restored, or would be unusable after a restore; the text is the reason."""


class DamagedBackupError(NoBackupError):
    """A damaged backup or database."""


def backup(path: Path, target: Path, config: Path, tell: Tell) -> int:
    """Write a backup of a database, whether or not the service runs; return how many damaged parts the backup has.

    A damaged part does not stop the backup: the first reader, here or after a restore, quarantines it
    and has its slots requested again.

    Args:
        target: The file to write; it appears only when it is complete and has passed the check for a restore.
        config: The utility's settings file, for the commands in errors.

    Raises:
        ConfigError: The target exists already, or there is no database.
        StoreError: The backup can't be made, or could not be restored.
    """
    if target.exists():
        raise ConfigError(f"{target}: exists already; name another file, or move that one away")
    if not path.is_file():
        raise ConfigError(f"{path}: there is no database")
    try:
        with _unfinished(target) as made:
            with hold(path), closing(open_read_only(path)) as source, damage_told():
                # A transaction: the copy is consistent, whatever is written meanwhile.
                source.execute("BEGIN")
                source.execute("SELECT count(*) FROM sqlite_schema").fetchone()
                copy(source, made, tell)
            damaged = check_copy(made)
            _sync(made)
            with uninterrupted():
                made.rename(target)
                sync_folder(target.absolute().parent)
    except NoBackupError as error:
        advice = f"Is it the right one? It is named by the key database in {config}"
        if isinstance(error, DamagedBackupError):
            advice = f"Stop the service and recover the sound rows: {command_line(config, 'recover')}"
        raise StoreError(f"{path}: no backup was made, since it could not be restored: {error}. {advice}") from error
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"{target}: the backup can't be made: {error}") from error
    return damaged


def copy(source: sqlite3.Connection, made: Path, tell: Tell) -> None:
    """Copy a database to a single file, without a log beside it."""
    with closing(sqlite3.connect(made, isolation_level=None)) as target:
        source.backup(target, pages=_PAGES_AT_A_TIME, progress=lambda _, left, total: tell(total - left, total))
        target.execute("PRAGMA journal_mode = DELETE")


def check_copy(made: Path) -> int:
    """Check a whole copy; return how many of its parts are damaged."""
    with closing(open_read_only(made)) as connection, damage_told():
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
        revision = _revision_of(connection, names)
        check_pages(connection, 0, ())
        if revision == revisions()[0]:  # An earlier schema and its rows are checked after their migration.
            check_schema(connection, empty_database())
            with create_engine("sqlite://", creator=lambda: open_read_only(made), poolclass=NullPool).connect() as rows:
                check_rows(rows)
        damaged = sum(_damaged(connection, table.name) for table in (part, compacted) if table.name in names)
        return damaged + (_damaged_in_batches(connection) if batch.name in names else 0)


@contextmanager
def damage_told() -> Iterator[None]:
    """Raise ``DamagedBackupError`` for a damaged file or one that is no database; pass on other errors."""
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:
        if isinstance(error, sqlite3.Error) and not fails_check(error):
            raise
        raise DamagedBackupError(f"it is damaged ({error})") from error


def command_line(config: Path, *words: str | Path) -> str:
    """Return a command of the utility, quoted for a shell."""
    return shlex.join(["commonwatt", "utility", *map(str, words), "--config", str(config)])


def _revision_of(connection: sqlite3.Connection, names: set[str]) -> str:
    """Return the schema of a copy."""
    if _VERSION_TABLE not in names:
        raise NoBackupError("it has no tables of Commonwatt")
    known = revisions()
    found = {str(version) for (version,) in connection.execute(f"SELECT version_num FROM {_VERSION_TABLE}")}  # noqa: S608 - ours
    if len(found) == 1 and found <= set(known):
        return found.pop()
    if not found:
        raise NoBackupError("it has no schema of Commonwatt")
    raise NoBackupError(
        f"a later version of Commonwatt made it, or another program (schema {', '.join(sorted(found))}; this version "
        f"knows {known[-1]} to {known[0]})"
    )


def _damaged(connection: sqlite3.Connection, table: str) -> int:
    sql = f"SELECT m.id, p.record_type, p.quarter, p.payload FROM {table} AS p JOIN meter AS m ON m.no = p.meter_no"  # noqa: S608 - a name of ours
    rows = connection.execute(sql)
    damaged = 0
    while some := rows.fetchmany(_ROWS_AT_A_TIME):
        keys = [(unsigned64(row[0]), row[1], row[2]) for row in some]
        damaged += len(unpack_sound(keys, [row[3] for row in some])[1])
    return damaged


def _damaged_in_batches(connection: sqlite3.Connection) -> int:
    """Return how many parts are damaged; a batch of which another column is damaged is one."""
    meters = {number: unsigned64(meter_id) for number, meter_id in connection.execute("SELECT no, id FROM meter")}
    names = ("first_quarter", "last_quarter", "low_meter", "high_meter", "blocks")
    damaged = 0
    for *found, payload in connection.execute(f"SELECT {', '.join(names)}, payload FROM {batch.name}"):  # noqa: S608 - ours
        parts = parts_of(payload)
        if parts is None or [parts.row()[name] for name in names] != found:
            damaged += 1
        else:
            damaged += len(parts.payloads) - len(parts.sound(meters).payloads)
    return damaged


@contextmanager
def _unfinished(target: Path) -> Iterator[Path]:
    """Yield a temporary path for a backup that is renamed when complete; an incomplete one is deleted."""
    made = target.with_name(f"{target.name}.part")
    made.unlink(missing_ok=True)
    # Only its owner may read it.
    os.close(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        yield made
    finally:
        delete_database(made)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


# A database with a row in one of these tables has data, and is replaced only on request.
_HOLDS = (meter, batch, part, compacted, event, dead_letter)

log = logging.getLogger(__name__)


def restore(path: Path, source: Path, now: EpochSeconds, config: Path, *, replace: bool, tell: Tell) -> Path | None:
    """Restore a backup under a new store id; return the new path of the replaced file, if there was one.

    The whole backup is checked before the database is changed.

    Args:
        path: The file of the database to restore.
        config: The utility's settings file, for the commands in errors.
        replace: Whether to replace a database that has data.

    Raises:
        ConfigError: The file is no backup, the database is in use, or it has data and ``replace`` is not set.
        StoreError: The backup can't be restored; the database is unchanged.
    """
    if not source.is_file():
        raise ConfigError(f"{source}: there is no such file")
    try:
        with only_one(path, "a running utility, or one of its commands,"), made_beside(path) as fresh:
            if not replace and path.exists() and _holds_something(path):
                raise ConfigError(
                    f"{path}: the database has data, which a restore would replace; if that is intended: "
                    f"{command_line(config, 'restore', source, '--replace')}"
                )
            with closing(open_read_only(source)) as connection, damage_told():
                copy(connection, fresh, tell)
            if damaged := check_copy(fresh):
                log.warning("%d of the backup's parts are damaged; each is quarantined when it is read", damaged)
            with (
                closing(open_database(sqlite_url(fresh), create=True, check=True)) as database,
                database.writes.begin() as writing,
            ):
                # Everybody logs in again: a session that was open when the backup was made may have been ended since.
                end_logins(writing)
                new_store_id(writing, forget=False)
            with uninterrupted():
                make_ready(fresh, path)
                return put_in_place(path, now, REPLACED)
    except (NoBackupError, DamagedDatabaseError) as error:
        why = f"it is damaged ({error.__cause__})" if isinstance(error, DamagedDatabaseError) else error
        raise ConfigError(
            f"{source}: is no backup of a utility's database on SQLite that can be restored: {why}. {path} is unchanged"
        ) from error
    except (OSError, sqlite3.Error, SQLAlchemyError) as error:
        raise StoreError(f"{source}: can't be restored: {error}; {path} is unchanged") from error


def _holds_something(path: Path) -> bool:
    """Return whether a file has data; an unreadable file may have some."""
    try:
        with closing(open_read_only(path)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
            ours = tables & {table.name for table in _HOLDS}
            return bool(tables - ours) and any(
                connection.execute(f"SELECT 1 FROM {name} LIMIT 1").fetchone()  # noqa: S608 - names of ours
                for name in ours
            )
    except (sqlite3.Error, UnicodeDecodeError):  # The second: SQLite's error quotes a damaged name.
        return path.stat().st_size > 0
