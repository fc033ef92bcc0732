"""Backup and restore of the whole database: by SQLite's online backup, or by PostgreSQL's own programs.

A restored database lacks data acknowledged since the backup. It gets a new store id, by which every gateway notices the
restore and sends its backup again.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import make_url

from commonwatt.model.exceptions import ConfigError, StoreError
from commonwatt.model.units import EpochSeconds
from commonwatt.runtime.files import sync_folder
from commonwatt.runtime.interrupts import uninterrupted
from commonwatt.sqlite.damage import delete_database
from utility.assembly.backup.checks import DamagedBackupError, NoBackupError, command_line
from utility.assembly.backup.postgres import dump, restore_server
from utility.assembly.backup.sqlite import Tell, copy_running, restore_file
from utility.database.database import sqlite_path


def backup(url: str, target: Path, config: Path, tell: Tell) -> int:
    """Write a backup of a database, whether or not the service runs; return how many damaged parts the backup has.

    A damaged part does not stop the backup: the first reader, here or after a restore, quarantines it
    and has its slots requested again.

    Args:
        url: The database.
        target: The file to write; it appears only when it is complete and has passed the check for a restore.
        config: The utility's settings file, for the commands in errors.
        tell: Called with the progress, on SQLite.

    Raises:
        ConfigError: The target exists already, there is no database, or a program is missing.
        StoreError: The backup can't be made, or could not be restored.
    """
    if target.exists():
        raise ConfigError(f"{target}: exists already; name another file, or move that one away")
    path = sqlite_path(url)
    try:
        with _unfinished(target) as made:
            if path is None:
                damaged = 0
                dump(make_url(url), made)
            else:
                damaged = copy_running(path, made, tell)
            _sync(made)
            with uninterrupted():
                made.rename(target)
                sync_folder(target.absolute().parent)
    except NoBackupError as error:
        name = path or make_url(url).database
        raise StoreError(
            f"{name}: no backup was made, since it could not be restored: {error}. {_advice(error, path, config)}"
        ) from error
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"{target}: the backup can't be made: {error}") from error
    return damaged


def restore(url: str, source: Path, now: EpochSeconds, config: Path, *, replace: bool, tell: Tell) -> Path | None:
    """Restore a backup under a new store id; return the new path of the replaced SQLite file, if there was one.

    The whole backup is checked before the database is changed.

    Args:
        url: The database to restore.
        source: The backup.
        config: The utility's settings file, for the commands in errors.
        replace: Whether to replace a database that has data.
        tell: Called with the progress, on SQLite.

    Raises:
        ConfigError: The file is no backup, the database is in use, or it has data and ``replace`` is not set.
        StoreError: The backup can't be restored; the database is unchanged.
    """
    if not source.is_file():
        raise ConfigError(f"{source}: there is no such file")
    path = sqlite_path(url)
    try:
        if path is not None:
            return restore_file(path, source, now, config, replace=replace, tell=tell)
        restore_server(make_url(url), source, config, replace=replace)
    except NoBackupError as error:
        kind = "PostgreSQL" if path is None else "SQLite"
        raise ConfigError(
            f"{source}: is no backup of a utility's database on {kind} that can be restored: {error}. "
            f"{path or make_url(url).database} is unchanged"
        ) from error
    return None


def _advice(error: NoBackupError, path: Path | None, config: Path) -> str:
    """Return what to do if no backup of a database can be made."""
    if not isinstance(error, DamagedBackupError):
        return f"Is it the right one? It is named by the key database in {config}"
    if path is None:
        return f"Stop the service and restore an older backup: {command_line(config, 'restore', 'BACKUP', '--replace')}"
    return f"Stop the service and recover the sound rows: {command_line(config, 'recover')}"


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
