"""What is wrong with the database, as far as the service has seen: it decides what is still taken in."""

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

from commonwatt.model.disk_space import ENOUGH_BYTES, LOW_BYTES
from utility.store.checks import is_damage, is_full

STORE_DAMAGED = "store_damaged"
DISK_FULL = "disk_full"
ALARMS = (STORE_DAMAGED, DISK_FULL)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Disk:
    """A disk when it was looked at.

    Attributes:
        free_bytes: What is free.
        size_bytes: How large it is.
    """

    free_bytes: int
    size_bytes: int


class Health:
    """Damage stands until the service is started again, which checks everything; a full disk until there is room.

    Args:
        path: The SQLite file; ``None``: the database is a server's, with a disk of its own.

    Attributes:
        disk: Its disk when it was last looked at; ``None`` before, and of a server's.
    """

    def __init__(self, path: Path | None) -> None:
        self.disk: Disk | None = None
        self._path = path
        self._damaged = False
        self._short = False
        self._failed_full = False

    @property
    def damaged(self) -> bool:
        """Whether the database is damaged: nothing is taken in."""
        return self._damaged

    @property
    def short(self) -> bool:
        """Whether there is too little room, in the file and on its disk: no batch is taken in."""
        return self._short

    def alarms(self) -> list[str]:
        """Return what a person must see to."""
        standing = {STORE_DAMAGED: self._damaged, DISK_FULL: self._short or self._failed_full}
        return [name for name in ALARMS if standing[name]]

    def failed(self, error: BaseException) -> None:
        """Take note of an error of the database."""
        if is_full(error):
            self._failed_full = True
        if is_damage(error) and not self._damaged:
            self._damaged = True
            log.error(
                "the database is damaged (%s): nothing is acknowledged any more; stop the service, then %s",
                error,
                "put back a backup of the server's" if self._path is None else "run: commonwatt utility recover",
            )

    def committed(self) -> None:
        """Take note that something was stored."""
        self._failed_full = False

    def look(self, within_bytes: int) -> None:
        """Look how much room there is.

        Args:
            within_bytes: What is free within the file, which is used again before the file grows.

        Raises:
            OSError: The disk can't be asked.
        """
        if self._path is None:
            return
        usage = shutil.disk_usage(self._path.absolute().parent)
        self.disk = Disk(usage.free, usage.total)
        free = usage.free + within_bytes
        if free < LOW_BYTES and not self._short:
            log.error("only %d MiB are free in %s and on its disk: no data is taken in", free // 2**20, self._path)
            self._short = True
        elif free >= ENOUGH_BYTES and self._short:
            log.warning("there is room again in %s or on its disk: data is taken in", self._path)
            self._short = False
