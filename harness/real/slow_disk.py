"""Run ``commonwatt`` on disks that hang: while a file ``hangs`` lies beside a gateway's store, no sync of it returns.

``main`` takes the arguments of ``commonwatt``.
"""

import time

from commonwatt.cli.main import main as commonwatt
from gateway.store.store import Store

HANGS = "hangs"  # name of the file beside the store
LOOK_EVERY_S = 0.02  # real seconds between two looks for it


def main() -> None:
    """Let syncs wait while the file is there, and run the command."""
    sync = Store.sync

    def wait_and_sync(store: Store) -> None:
        while store._path.with_name(HANGS).exists():
            time.sleep(LOOK_EVERY_S)
        sync(store)

    Store.sync = wait_and_sync  # type: ignore[method-assign, assignment]
    commonwatt()
