"""Faults of the world that a person sets, what a frozen or lying meter reports, and the boundary switch (C5)."""

import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, TypeAlias

from pydantic import Field

from commonwatt.config.files import check_model
from commonwatt.config.settings import Settings
from commonwatt.model.control import STABLE_S, UNMANAGED_S, SupplyState
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.records import RecordType, State
from commonwatt.model.units import ID_PATTERN, EpochSeconds, MeterId, MilliwattHours
from commonwatt.protocol.commands import Epoch, HeldState
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


Readings = Mapping[RecordType, MilliwattHours]


class FalseReadings:
    """The readings that meters of a microgrid report."""

    def __init__(self) -> None:
        self._frozen: dict[MeterId, Readings] = {}

    def of(self, meter: MeterId, readings: Readings, fault: MeterFault | None, at: EpochSeconds) -> Readings:
        """Return what a meter reports of the slot that starts at ``at``.

        Frozen: the readings of the first slot of the fault. Lying: the level, or without a battery the energy, is off.
        """
        what = None if fault is None or at >= fault.until else fault.what
        if what != "frozen":
            self._frozen.pop(meter, None)
        if what == "frozen":
            return self._frozen.setdefault(meter, readings)
        if what == "lying" and fault is not None:
            kind = RecordType.STORED if RecordType.STORED in readings else RecordType.THROUGH
            return {**readings, kind: max(0, readings[kind] + fault.by_mwh)}
        return readings


Pair: TypeAlias = tuple[Epoch, int]  # the epoch and the sequence of a command


class KeptSwitch(NamedTuple):
    """What the switch keeps over a restart of the emulator."""

    is_open: bool  # whether it is open
    opened_by: Pair = ((0, 0), 0)  # the newest command when it opened: a later one releases it


class BoundarySwitch:
    """The boundary switch, slot by slot."""

    def __init__(self, delay_s: Callable[[EpochSeconds], int], kept: KeptSwitch) -> None:
        """Take the microgrid's own delay by the voltage's return (``return_delay_s``), and what it kept before."""
        self.is_open = kept.is_open  # whether it is open
        self.voltage = True  # whether the town's side had voltage in the last slot
        self._delay_s = delay_s
        self._wait_s = UNMANAGED_S
        self._stable_since: EpochSeconds | None = None
        self._held_until: EpochSeconds = 0
        self._opened_by = kept.opened_by

    @property
    def kept(self) -> KeptSwitch:
        """What it keeps over a restart."""
        return KeptSwitch(self.is_open, self._opened_by)

    def step(self, *, voltage: bool, held: HeldState | None, at: EpochSeconds) -> None:
        """Decide about the slot that starts at ``at``.

        Args:
            voltage: Whether the town's side has voltage.
            held: The boundary meter's desired state of isolation; ``None``: it never had one.
            at: The slot's start.
        """
        self.voltage = voltage
        isolated = held is not None and held.value == "on" and (held.until is None or held.until > at)
        pair = ((0, 0), 0) if held is None else _pair(held)
        if isolated or (not voltage and not self.is_open):
            self._opened_by = pair
        if not voltage:
            self.is_open, self._stable_since = True, None
            return
        if self._stable_since is None:
            self._wait_s = UNMANAGED_S + self._delay_s(at)
        # The earlier one: the clock may have been set back.
        self._stable_since = at if self._stable_since is None else min(self._stable_since, at)
        if isolated or not self.is_open:
            self.is_open, self._held_until = isolated, at
            return
        if held is not None and held.value == "off" and pair > self._opened_by:
            self.is_open = at - self._stable_since < STABLE_S
        else:
            # The clock may have been set back.
            self._held_until = min(self._held_until, at)
            self.is_open = at - max(self._stable_since, self._held_until) < self._wait_s

    @property
    def bits(self) -> State:
        """The state bits of the boundary's meters."""
        bits = State(0)
        if not self.voltage:
            bits |= State.DEAD_FEEDER
        if self.is_open:
            bits |= State.SWITCH_OPEN
        return bits | State.OFF_GRID if bits else bits


def newest(held: Iterable[HeldState | None]) -> HeldState | None:
    """Return the state that the newest command set; ``None``: there was none."""
    return max(filter(None, held), key=_pair, default=None)


def _pair(held: HeldState) -> Pair:
    return held.epoch, held.seq
