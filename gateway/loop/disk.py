"""The disk of the gateway's stores: its free space, for the cores and the log, and the ballast for a full disk."""

import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from commonwatt.model.disk_space import ENOUGH_BYTES
from commonwatt.sqlite.damage import SqliteError, is_full
from gateway.core import HostedMicrogrid

DISK_SPACE_TO_OPEN_BYTES = 1024 * 1024  # free bytes below which the ballast is deleted before the store is opened

log = logging.getLogger(__name__)
BALLAST_BYTES = 8 * 1024 * 1024
"""Bytes of ballast beside a store: the most SQLite's log needs while rows are changed or deleted, but not added."""


class Disk:
    """The disk that a controller's stores are on; the ballast lies beside the store of its own microgrid."""

    def __init__(self, store: Path) -> None:
        self.free_bytes = 0  # its free bytes at the last check
        self.size_bytes = 0  # its size in bytes at the last check
        self._ballast = Ballast(store)

    def make_disk_space_to_open(self) -> None:
        """Make the ballast, or delete it if the store needs the space to be opened."""
        if self._ballast.space()[0] < DISK_SPACE_TO_OPEN_BYTES:
            self._ballast.give_up()

    def look(self, cores: Mapping[Path, HostedMicrogrid]) -> None:
        """Report the free disk space to the cores, by their stores' files; log when one begins or ceases to refuse."""
        try:
            self.free_bytes, self.size_bytes = self._ballast.space()
        except OSError as error:
            log.error("the disk's free space can't be read (%s)", error)
            return
        for store, core in cores.items():
            try:
                changed = core.disk_space(self.free_bytes)
            except SqliteError as error:
                log.error("the free pages of store %s can't be read (%s)", store, error)
            else:
                if changed:
                    self._log(store, refuses=core.upkeep.short)

    def _log(self, store: Path, *, refuses: bool) -> None:
        if refuses:
            log.error(
                "low disk space for store %s, %d bytes: records are refused, the oldest acknowledged data is deleted",
                store,
                self.free_bytes,
            )
        else:
            log.warning("enough disk space again for store %s: records are accepted", store)

    def failed(self, error: SqliteError) -> None:
        """Delete the ballast if the store failed because the disk is full, for the writes that are necessary."""
        if is_full(error):
            self._ballast.give_up()


class Ballast:
    """A file beside a store that is deleted when the disk is full."""

    def __init__(self, store: Path) -> None:
        self._path = store.with_name(store.name + ".ballast")

    def space(self) -> tuple[int, int]:
        """Return the free bytes on the disk, and its size in bytes; create the ballast if space allows."""
        size, _, free = shutil.disk_usage(self._path.parent)
        if free >= ENOUGH_BYTES + BALLAST_BYTES and not self._path.exists():
            self._make()
            free -= BALLAST_BYTES
        return free, size

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
