"""The clock by which a fleet measures slots: the machine's, corrected to the time that the gateways report."""

from commonwatt.model.units import SLOT_S, EpochSeconds
from commonwatt.runtime.clock import Clock

SLEW_S = 1.5  # change of a slot's length while the fleet's clock is slewed to the gateways' time, seconds
# A larger clock error is corrected at once. Ahead: slot by slot; back: slots already recorded stay as they are.
SLEW_AT_MOST_S = 60


class FleetClock:
    """The clock of a fleet.

    Attributes:
        ahead_s: The machine's clock minus this one.
        stop_at: The meters make no records for slots that end after this; ``None``: for ever.
    """

    def __init__(self, clock: Clock) -> None:
        self.ahead_s = 0.0
        self._clock = clock

    @property
    def stop_at(self) -> EpochSeconds | None:
        """Return the end of measuring."""
        return self._clock.meters_stop_at

    def machine(self) -> float:
        """Return the machine's time, by which timers run."""
        return self._clock.now()

    def time(self) -> float:
        """Return the fleet's time."""
        return self._clock.now() - self.ahead_s

    def last_moment(self) -> EpochSeconds:
        """Return the fleet's time, or the time at which the meters stop if that is earlier."""
        now = int(self.time())
        return now if self.stop_at is None else min(now, self.stop_at)

    def has_ended(self, slot_end: EpochSeconds) -> bool:
        """Whether the slot after one is over, and to be measured."""
        return slot_end + SLOT_S <= self.last_moment()

    def lag_s(self, slot_end: EpochSeconds) -> float:
        """Return the delay of the newest slot."""
        now = self.time() if self.stop_at is None else min(self.time(), self.stop_at)
        return round(max(0.0, now - slot_end - SLOT_S), 3)

    def correct(self, told_s: float) -> float:
        """Correct the clock if it is wrong by more than ``SLEW_AT_MOST_S``; return by how much, or 0.

        ``told_s``: the gateways' time minus the machine's.
        """
        wrong_s = self.ahead_s + told_s
        if abs(wrong_s) <= SLEW_AT_MOST_S:
            return 0.0
        self.ahead_s -= wrong_s
        return wrong_s

    def slew(self, told_s: float) -> None:
        """Slew the clock by a part of one slot, so that no slot is lost or comes twice."""
        self.ahead_s += max(-SLEW_S, min(SLEW_S, -self.ahead_s - told_s))

    def real_s_until(self, moment: float) -> float:
        """Return the real seconds until a time of the machine's clock."""
        return self._clock.real_s_until(moment)

    def real_s_until_slot(self, slot_end: EpochSeconds) -> float | None:
        """Return the real seconds until the slot after one is over; ``None``: it is not measured any more."""
        if self.stop_at is not None and slot_end + SLOT_S > self.stop_at:
            return None
        return self._clock.real_s_until(slot_end + SLOT_S + self.ahead_s)
