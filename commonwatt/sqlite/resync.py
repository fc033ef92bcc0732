"""Sync a write-ahead log again before the first use of its content.

After a failed sync the page cache marks unwritten pages as clean: reads return them, no sync writes them. This does
no harm while a connection is open, since SQLite writes over the frames of a commit that failed. But a process that
opens the database then reads them as committed; its own commits follow them and are synced; and at the next power
cut there is a hole in the log, at which SQLite ends it: acknowledged commits are lost (docs/stores.md).
"""

import os
import sqlite3
from pathlib import Path

from commonwatt.runtime.files import sync_folder

_CHUNK_BYTES = 1 << 20


def write_log_again(path: Path) -> None:
    """Write the log of the database at ``path`` over itself, the same bytes, and sync it and its name.

    No other process may write to the log meanwhile: call it before the first connection of the only process that
    writes, or in a transaction that writes, before it does.

    Raises:
        sqlite3.OperationalError: It can't be written or synced; its content must not be used.
    """
    log = path.with_name(path.name + "-wal")
    if not log.exists():
        return  # A database in memory, or a database without a log.
    try:
        with log.open("r+b", buffering=0) as file:
            at = 0
            while chunk := os.pread(file.fileno(), _CHUNK_BYTES, at):
                at += os.pwrite(file.fileno(), chunk, at)
            os.fsync(file.fileno())
        sync_folder(log.parent)
    except OSError as error:
        raise sqlite3.OperationalError(f"{log}: can't be synced: {error.strerror}") from error
