"""Runs ``commonwatt`` with a bug planted in its stores, which power cuts must reveal.

``python planted.py normal gateway run ...``: as ``commonwatt gateway run ...``, but commits are not synced.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any

from commonwatt.cli import main
from gateway.changes import Change
from gateway.store import Store
from utility.store import database


def normal() -> None:
    """Sync at checkpoints only (``synchronous=NORMAL``), at the gateway and at the utility."""
    set_pragmas = database._set_pragmas

    def not_synced(connection: Any, _: object) -> None:
        set_pragmas(connection, _)
        connection.execute("PRAGMA synchronous = NORMAL")

    database._set_pragmas = not_synced
    prepare = Store._prepare

    def prepare_not_synced(store: Store) -> None:
        prepare(store)
        store._db.execute("PRAGMA synchronous = NORMAL")

    Store._prepare = prepare_not_synced  # type: ignore[assignment, method-assign]


def behind() -> None:
    """Acknowledge first: the gateway's store commits what it was given with the next step."""
    commit = Store.commit
    held: list[Change] = []

    def commit_the_last(store: Store, changes: Sequence[Change]) -> None:
        before = held.copy()
        held[:] = changes
        if before:
            commit(store, before)

    Store.commit = commit_the_last  # type: ignore[assignment, method-assign]


PLANTED: dict[str, Callable[[], None]] = {"normal": normal, "behind": behind}


if __name__ == "__main__":
    PLANTED[sys.argv.pop(1)]()
    sys.argv[0] = "commonwatt"
    main()
