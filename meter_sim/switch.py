"""The emulated boundary switch of a microgrid: it trips by itself, and closes on a stable voltage alone (C5)."""

from commonwatt.model.records import State
from commonwatt.model.units import EpochSeconds
from commonwatt.protocol.commands import Held

STABLE_S = 300
"""Seconds of stable voltage without which no command closes the switch."""

UNMANAGED_S = 900
"""The same, if no manager commanded it to close since it opened."""


class BoundarySwitch:
    """The boundary switch, slot by slot.

    Attributes:
        is_open: Whether it is open.
        voltage: Whether the town's side had voltage in the last slot.
    """

    def __init__(self, delay_s: int, *, is_open: bool) -> None:
        """Take the microgrid's own delay (``return_delay_s``), and its state before the start."""
        self.is_open = is_open
        self.voltage = True
        self._delay_s = delay_s
        self._stable_since: EpochSeconds | None = None
        self._opened_by: tuple[object, int] = ((0, 0), 0)

    def step(self, *, voltage: bool, held: Held | None, at: EpochSeconds) -> None:
        """Decide about the slot that starts at ``at``.

        Args:
            voltage: Whether the town's side has voltage.
            held: The boundary meter's desired state of isolation; ``None``: it never had one.
            at: The slot's start.
        """
        self.voltage = voltage
        isolated = held is not None and held.value == "on" and (held.until is None or held.until > at)
        pair = ((0, 0), 0) if held is None else (held.epoch, held.seq)
        if isolated or (not voltage and not self.is_open):
            self._opened_by = pair
        if not voltage:
            self.is_open, self._stable_since = True, None
            return
        self._stable_since = at if self._stable_since is None else self._stable_since
        if isolated or not self.is_open:
            self.is_open = isolated
            return
        released = held is not None and held.value == "off" and pair > self._opened_by
        wait_s = STABLE_S if released else UNMANAGED_S + self._delay_s
        self.is_open = at - self._stable_since < wait_s

    @property
    def bits(self) -> State:
        """The state bits of the boundary's meters."""
        bits = State(0)
        if not self.voltage:
            bits |= State.DEAD_FEEDER
        if self.is_open:
            bits |= State.SWITCH_OPEN
        return bits | State.OFF_GRID if bits else bits
