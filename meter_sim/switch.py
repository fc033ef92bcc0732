"""The emulated boundary switch of a microgrid: it trips by itself, and closes on a stable voltage alone (C5)."""

from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeAlias

from commonwatt.model.control.return_delay import STABLE_S, UNMANAGED_S
from commonwatt.model.records import State
from commonwatt.model.units import EpochSeconds
from commonwatt.protocol.commands import Epoch, Held

Pair: TypeAlias = tuple[Epoch, int]  # the epoch and the sequence of a command


class Kept(NamedTuple):
    """What the switch keeps over a restart of the emulator."""

    is_open: bool  # whether it is open
    opened_by: Pair = ((0, 0), 0)  # the newest command when it opened: a later one releases it


class BoundarySwitch:
    """The boundary switch, slot by slot."""

    def __init__(self, delay_s: Callable[[EpochSeconds], int], kept: Kept) -> None:
        """Take the microgrid's own delay by the voltage's return (``return_delay_s``), and what it kept before."""
        self.is_open = kept.is_open  # whether it is open
        self.voltage = True  # whether the town's side had voltage in the last slot
        self._delay_s = delay_s
        self._wait_s = UNMANAGED_S
        self._stable_since: EpochSeconds | None = None
        self._held_until: EpochSeconds = 0
        self._opened_by = kept.opened_by

    @property
    def kept(self) -> Kept:
        """What it keeps over a restart."""
        return Kept(self.is_open, self._opened_by)

    def step(self, *, voltage: bool, held: Held | None, at: EpochSeconds) -> None:
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


def newest(held: Iterable[Held | None]) -> Held | None:
    """Return the state that the newest command set; ``None``: there was none."""
    return max(filter(None, held), key=_pair, default=None)


def _pair(held: Held) -> Pair:
    return held.epoch, held.seq
