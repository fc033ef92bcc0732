"""The mark of a released store of meters, which another machine goes on with: no program may run on it."""

import sqlite3
from contextlib import closing
from pathlib import Path

from commonwatt.model.exceptions import ConfigError, StoreError

_RELEASED = 0x52454C  # SQLite's ``application_id`` of a released store; 0: in use


def mark(path: Path, *, released: bool) -> None:
    """Mark a store that no program uses; nothing of it is in a log then.

    Raises:
        StoreError: It is damaged, can't be opened, or a program reads it.
    """
    # Not at the top: a running gateway needs no store of meters.
    from commonwatt.device.store import damage_of, open_store

    if why := damage_of(path, None):
        raise StoreError(f"{path}: is damaged ({why}); move it away with its -wal, and type this again")
    with closing(open_store(path)) as store:
        store.connection.execute(f"PRAGMA application_id = {_RELEASED if released else 0}")
        if store.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            raise StoreError(f"{path}: is read by another program; type this again")


def check_in_use(path: Path, connection: sqlite3.Connection) -> None:
    """Check that an adapter's store was not released.

    Raises:
        ConfigError: It was.
    """
    if connection.execute("PRAGMA application_id").fetchone()[0] == _RELEASED:
        undo = "commonwatt gateway release --undo --config FILE --adapter FILE"
        raise ConfigError(f"{path}: was released. If no new controller started: {undo}")
