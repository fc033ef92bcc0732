"""Free disk space, and a ballast file to release when the disk is full."""

import logging
import os
import shutil
from pathlib import Path

from commonwatt.model.disk_space import ENOUGH_BYTES

BALLAST_BYTES = 8 * 1024 * 1024
"""Bytes of ballast beside a store: the most SQLite's log needs while rows are changed or deleted, but not added."""

log = logging.getLogger(__name__)


class Ballast:
    """A file beside a store that is deleted when the disk is full."""

    def __init__(self, store: Path) -> None:
        self._path = store.with_name(store.name + ".ballast")

    def free_bytes(self) -> int:
        """Return the free bytes on the disk; create the ballast if space allows."""
        free = shutil.disk_usage(self._path.parent).free
        if free >= ENOUGH_BYTES + BALLAST_BYTES and not self._path.exists():
            self._make()
            free -= BALLAST_BYTES
        return free

    def disk_bytes(self) -> int:
        """Return the size of the disk in bytes."""
        return shutil.disk_usage(self._path.parent).total

    def _make(self) -> None:
        try:
            with self._path.open("xb") as file:
                os.posix_fallocate(file.fileno(), 0, BALLAST_BYTES)
        except OSError as error:
            log.warning("%s can't be made: %s", self._path, error.strerror)
            self._path.unlink(missing_ok=True)

    def give_up(self) -> None:
        """Delete the ballast, to free space for necessary writes."""
        if self._path.exists():
            log.error("the disk of %s is full: its ballast is given up", self._path)
            self._path.unlink(missing_ok=True)
