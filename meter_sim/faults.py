"""Faults of the world that a person sets while a fleet runs, in a file beside its store (docs/islanding.md)."""

import logging
from pathlib import Path

from commonwatt.config.files import check_model
from commonwatt.config.settings import Settings
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import EpochSeconds
from commonwatt.runtime.files import read_object, write_private

_log = logging.getLogger(__name__)


class Faults(Settings):
    """The faults of a fleet's world.

    Attributes:
        feeder_dead_until: Until when the town's side of the boundary has no voltage, epoch seconds.
    """

    feeder_dead_until: EpochSeconds = 0


def path_of(store: Path) -> Path:
    """Return the file of the faults of the fleet with a store."""
    return store.with_name(f"{store.name}.world.json")


def save(path: Path, faults: Faults) -> None:
    """Replace the faults; the running fleet sees them at its next slot."""
    write_private(path, faults.model_dump_json() + "\n")


def load(path: Path) -> Faults:
    """Return the faults; without a file, there are none.

    Raises:
        ConfigError: The file is wrong.
    """
    if not path.exists():
        return Faults()
    return check_model(path, Faults, read_object(path, "the faults of a fleet's world", "delete it"))


class FaultsFile:
    """The faults file of a running fleet, read again when it changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._faults = Faults()

    def read(self) -> Faults:
        """Return the present faults; a wrong file is logged, and the faults before it stay."""
        found = self._path.stat() if self._path.exists() else None
        stamp = None if found is None else (found.st_mtime_ns, found.st_ino)
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._faults = load(self._path)
            except ConfigError as error:
                _log.error("%s; the faults stay as they were", error)
        return self._faults
