"""Backups of the whole database, and putting one back: SQLite's online backup, or PostgreSQL's own programs.

A database that was put back has fallen behind what was acknowledged since. It gets a new store id, by which every
gateway sees that, and sends its backup again.
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
from utility.store.backup.restore import DamagedBackupError, NoBackupError, command_line
from utility.store.backup.sqlite import Tell, copy_running, restore_file
from utility.store.database import sqlite_path
from utility.store.postgres.backup import dump, restore_server


def backup(url: str, target: Path, config: Path, tell: Tell) -> int:
    """Write a backup of a database, whether or not the service runs; return how many damaged parts are in it.

    A damaged part does not stop the backup: a reader, here or where the backup was restored, sets it
    aside and has it asked for again.

    Args:
        url: The database.
        target: The file to write; it is there when it is complete and was found fit to be put back, or not at all.
        config: The utility's file, for the commands that errors name.
        tell: Is told of the progress, on SQLite.

    Raises:
        ConfigError: The file is there already, there is no database, or a program is missing.
        StoreError: It can't be made, or what was written could not be put back.
    """
    if target.exists():
        raise ConfigError(f"{target}: is there already; name another file, or move that one away")
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
            f"{name}: no backup was made, since it could not be put back: {error}. {_advice(error, path, config)}"
        ) from error
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"{target}: the backup can't be made: {error}") from error
    return damaged


def restore(url: str, source: Path, now: EpochSeconds, config: Path, *, replace: bool, tell: Tell) -> Path | None:
    """Put a backup back, under a new store id; return where the SQLite file that was there is now, if there was one.

    The backup is looked at whole before anything of the database is touched.

    Args:
        url: Where to.
        source: The backup.
        now: The time.
        config: The utility's file, for the commands that errors name.
        replace: Whether a database that holds something is replaced.
        tell: Is told of the progress, on SQLite.

    Raises:
        ConfigError: It is no backup, the database is in use, or it holds something and is not to be replaced.
        StoreError: It can't be put back; the database is as it was.
    """
    if not source.is_file():
        raise ConfigError(f"{source}: no backup there")
    path = sqlite_path(url)
    try:
        if path is not None:
            return restore_file(path, source, now, config, replace=replace, tell=tell)
        restore_server(make_url(url), source, config, replace=replace)
    except NoBackupError as error:
        kind = "PostgreSQL" if path is None else "SQLite"
        raise ConfigError(
            f"{source}: is no backup of a utility's database on {kind} that can be put back: {error}. "
            f"{path or make_url(url).database} is as it was"
        ) from error
    return None


def _advice(error: NoBackupError, path: Path | None, config: Path) -> str:
    """Return what to do about a database of which no backup can be made."""
    if not isinstance(error, DamagedBackupError):
        return f"Is it the right one? It is named by the key database in {config}"
    if path is None:
        return f"Stop the service and put back an older one: {command_line(config, 'restore', 'BACKUP', '--replace')}"
    return f"Stop the service and take over what is sound: {command_line(config, 'recover')}"


@contextmanager
def _unfinished(target: Path) -> Iterator[Path]:
    """Yield where a backup is written that gets its name when it is whole; nothing else is left of it."""
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
