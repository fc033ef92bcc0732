"""The disk of the gateway's store: what room it has, for the core and in the log, and the ballast for a full one."""

import logging
import sqlite3
from pathlib import Path

from commonwatt.runtime.disk_space import Ballast
from commonwatt.sqlite.damage import is_full
from gateway.core import Gateway

DISK_SPACE_TO_OPEN_BYTES = 1024 * 1024
"""With less free than this the ballast is given up before the store is opened."""

log = logging.getLogger(__name__)


class Disk:
    """The disk that a store is on.

    Attributes:
        free_bytes: What was free when it was last looked at.
        size_bytes: How large it was then.
    """

    def __init__(self, store: Path) -> None:
        self.free_bytes = 0
        self.size_bytes = 0
        self._store = store
        self._ballast = Ballast(store)

    def make_disk_space_to_open(self) -> None:
        """Make the ballast; or give it up if the store would find no room to be opened."""
        if self._ballast.free_bytes() < DISK_SPACE_TO_OPEN_BYTES:
            self._ballast.give_up()

    def look(self, core: Gateway) -> None:
        """Let the core know how much room there is; say so when that changes what it takes in."""
        try:
            free = self.free_bytes = self._ballast.free_bytes()
            self.size_bytes = self._ballast.disk_bytes()
            changed = core.disk_space(free)
        except (OSError, sqlite3.Error) as error:
            log.error("the room for store %s is not known (%s)", self._store, error)
            return
        if changed and core.upkeep.short:
            log.error(
                "no room for store %s, %d bytes are free: records are refused, the oldest acknowledged data is deleted",
                self._store,
                free,
            )
        elif changed:
            log.warning("room again for store %s: records are taken in", self._store)

    def failed(self, error: sqlite3.Error) -> None:
        """Make room for what must still be written, if it is for want of it that the store failed."""
        if is_full(error):
            self._ballast.give_up()

    def reopened(self, error: sqlite3.Error, core: Gateway) -> None:
        """Let the core know that there is no room, if it was for want of it that the store had failed."""
        if is_full(error):
            # Until the next look: what was given up is for commands, not for records.
            core.disk_space(0)
