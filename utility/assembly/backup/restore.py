"""Restore of an SQLite database's backup, which takes the place of its file.

A restored database lacks data acknowledged since the backup. It gets a new store id, by which every gateway notices the
restore and sends its backup again.
"""

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from commonwatt.config.database_url import sqlite_url
from commonwatt.model.exceptions import ConfigError, StoreError
from commonwatt.model.units import EpochSeconds
from commonwatt.runtime.interrupts import uninterrupted
from commonwatt.runtime.service import only_one
from commonwatt.sqlite.damage import REPLACED, made_beside, make_ready, open_read_only, put_in_place
from utility.access.store.access import end_logins
from utility.assembly.backup.backup import NoBackupError, Tell, check_copy, command_line, copy, damage_told
from utility.database.database import DamagedDatabaseError, new_store_id, open_database
from utility.readings.tables import batch, compacted, dead_letter, event, part
from utility.registry.tables import meter

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
