"""Health of the database, as observed by the service; it decides which messages are still accepted."""

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
    """A disk's space at its last check.

    Attributes:
        free_bytes: Free space.
        size_bytes: Total size.
    """

    free_bytes: int
    size_bytes: int


class Health:
    """Damage and disk space. Damage lasts until a restart, which checks everything; a full disk until space is free.

    Args:
        path: The SQLite file; ``None``: the database is on a server with its own disk.

    Attributes:
        disk: The file's disk at the last check; ``None`` before it, and for a server's database.
    """

    def __init__(self, path: Path | None) -> None:
        self.disk: Disk | None = None
        self._path = path
        self._damaged = False
        self._short = False
        self._failed_full = False

    @property
    def damaged(self) -> bool:
        """Whether the database is damaged: nothing is accepted."""
        return self._damaged

    @property
    def short(self) -> bool:
        """Whether too little space is free, in the file and on its disk: no batch is accepted."""
        return self._short

    def alarms(self) -> list[str]:
        """Return the alarms that need an operator."""
        standing = {STORE_DAMAGED: self._damaged, DISK_FULL: self._short or self._failed_full}
        return [name for name in ALARMS if standing[name]]

    def failed(self, error: BaseException) -> None:
        """Update the health after a database error."""
        if is_full(error):
            self._failed_full = True
        if is_damage(error) and not self._damaged:
            self._damaged = True
            log.error(
                "the database is damaged (%s): nothing is acknowledged any more; stop the service, then %s",
                error,
                "restore a backup of the server's" if self._path is None else "run: commonwatt utility recover",
            )

    def committed(self) -> None:
        """Update the health after a successful commit."""
        self._failed_full = False

    def look(self, within_bytes: int) -> None:
        """Check the free space.

        Args:
            within_bytes: Free space within the file, which is reused before the file grows.

        Raises:
            OSError: The disk's usage can't be read.
        """
        if self._path is None:
            return
        usage = shutil.disk_usage(self._path.absolute().parent)
        self.disk = Disk(usage.free, usage.total)
        free = usage.free + within_bytes
        if free < LOW_BYTES and not self._short:
            log.error("only %d MiB are free in %s and on its disk: no data is accepted", free // 2**20, self._path)
            self._short = True
        elif free >= ENOUGH_BYTES and self._short:
            log.warning("space is free again in %s or on its disk: data is accepted", self._path)
            self._short = False
