"""Faults of the world that a person sets while a fleet runs, in a file beside its store (docs/islanding.md)."""

import logging
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from commonwatt.config.files import check_model
from commonwatt.config.settings import Settings
from commonwatt.model.control.supply import SupplyState
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.ids import ID_PATTERN
from commonwatt.model.units import EpochSeconds, MilliwattHours
from commonwatt.runtime.files import read_object, write_private
from commonwatt.town.scenario import Scenario

_log = logging.getLogger(__name__)

DecimalId = Annotated[str, Field(pattern=f"^{ID_PATTERN}$")]  # a meter's id as text
End = Annotated[EpochSeconds, Field(ge=0, le=2**53)]  # the end of a fault, epoch seconds


class Factor(Settings):
    """The sun or the demand, as a percentage of the ordinary one, until a time."""

    percent: int = Field(ge=0, le=1000)
    until: End


class Shortage(Settings):
    """The state of the regional supply until a time."""

    state: SupplyState
    until: End


class MeterFault(Settings):
    """A fault of one meter until a time.

    ``frozen``: it reports the readings of its last slot again and again. ``lying``: its level, or without a battery
    its energy, is off by ``by_mwh``. ``silent``: it measures, and sends and receives nothing.
    """

    what: Literal["frozen", "lying", "silent"]
    until: End
    by_mwh: Annotated[MilliwattHours, Field(ge=-(2**40), le=2**40)] = 0


class Faults(Settings):
    """The faults of a fleet's world."""

    feeder_dead_until: End = 0  # until when the town's side of the boundary has no voltage
    line_dead_until: End = 0  # until when the plant's line to the regional grid has no voltage
    lte_dead_until: End = 0  # until when no meter reaches its controller
    lte_lossy_until: End = 0  # until when a third of the messages between meters and controllers is lost
    sun: Factor | None = None  # the sun that clouds let through
    demand: Factor | None = None  # the load of all places
    supply: Shortage | None = None  # the state of the regional supply
    meters: dict[DecimalId, MeterFault] = Field(default_factory=dict)  # faults of meters, by id
    scenario: Scenario | None = None  # the scenario that is played, with its beginning in the town's present

    def supply_at(self, at: EpochSeconds) -> SupplyState:
        """Return the state of the regional supply in a slot."""
        return SupplyState.NORMAL if self.supply is None or at >= self.supply.until else self.supply.state


def percent_at(factor: Factor | None, at: EpochSeconds) -> int:
    """Return the percentage of a factor in a slot."""
    return 100 if factor is None or at >= factor.until else factor.percent


def path_of(store: Path) -> Path:
    """Return the file of the faults of a fleet, beside its store; of several microgrids, beside the settings file."""
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
