"""Examination of a gateway's store for ``commonwatt doctor``; read-only, whether the gateway runs or not."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from commonwatt.model.exceptions import StoreError
from commonwatt.sqlite.wal import read_log
from gateway.store.store import Store


@contextmanager
def examined(path: Path, *, runs: bool) -> Iterator[Store]:
    """Open a store that passes the checks of a gateway's start; a running gateway's log is not read.

    Raises:
        ConfigError: The store is missing.
        StoreError: It is damaged, can't be opened, or is of another program or a newer release.
    """
    found = None if runs else read_log(path)
    if found is not None and found.lost_commits:
        raise StoreError(f"{path}: its log is damaged, before its last {found.lost_commits} transactions")
    try:
        store = Store.open(path, read_only=True)
        try:
            store.check(path.stat().st_size)
            yield store
        finally:
            store.close()
    except sqlite3.Error as error:
        raise StoreError(f"{path}: {error}") from error
