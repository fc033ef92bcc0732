"""Run ``commonwatt`` with a planted bug in its stores, which power cuts must reveal.

``python planted.py normal gateway run ...``: as ``commonwatt gateway run ...``, but commits are not synced.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from commonwatt.cli.main import main
from gateway.loop.hosted_store import HostedStore
from gateway.store import store
from gateway.store.changes import Change
from gateway.store.store import Store
from utility.database import engines

STEPS_BEHIND = 5


def normal() -> None:
    """Sync at checkpoints only (``synchronous=NORMAL``), at the gateway and at the utility."""
    set_pragmas = engines._set_pragmas

    def not_synced(connection: Any, _: object) -> None:
        set_pragmas(connection, _)
        connection.execute("PRAGMA synchronous = NORMAL")

    engines._set_pragmas = not_synced
    prepare = Store._prepare

    def prepare_not_synced(store: Store, *, is_new: bool) -> None:
        prepare(store, is_new=is_new)
        store._db.execute("PRAGMA synchronous = NORMAL")

    Store._prepare = prepare_not_synced  # type: ignore[assignment, method-assign]


def behind() -> None:
    """Acknowledge first: the gateway's store commits a few steps later."""
    commit = HostedStore.commit
    held: list[list[Change]] = []

    async def commit_later(store: HostedStore, changes: list[Change]) -> None:
        held.append(changes)
        if len(held) > STEPS_BEHIND:
            await commit(store, held.pop(0))

    HostedStore.commit = commit_later  # type: ignore[assignment, method-assign]


def trusting() -> None:
    """Trust the log as read after a failed sync, at the gateway and at the utility."""

    def believe(path: Path) -> None:
        del path

    store.write_log_again = believe  # type: ignore[attr-defined]
    engines.write_log_again = believe  # type: ignore[attr-defined]


PLANTED: dict[str, Callable[[], None]] = {"normal": normal, "behind": behind, "trusting": trusting}


if __name__ == "__main__":
    PLANTED[sys.argv.pop(1)]()
    sys.argv[0] = "commonwatt"
    main()
