"""A meter's own clock: the seconds that it was on, kept over restarts.

It never goes back and stands still while the meter is off, so that a restart or a wrong time never makes a day shorter.
"""

SAVE_S = 900.0  # most seconds that a restart forgets


class OwnClock:
    """Counts the seconds that a meter is on.

    Args:
        own_s: Its value at the last write.
    """

    def __init__(self, own_s: float) -> None:
        self.own_s = own_s  # its present value
        self._saved_s = own_s
        self._counted_to: float | None = None

    @property
    def is_due(self) -> bool:
        """Whether it is to be saved."""
        return self.own_s - self._saved_s >= SAVE_S

    def pass_time(self, now: float) -> None:
        """Count the time since the last call; the first call after a start counts none."""
        if self._counted_to is not None:
            self.own_s += max(0.0, now - self._counted_to)
        self._counted_to = now

    def save(self) -> float:
        """Return its value, to be written."""
        self._saved_s = self.own_s
        return self.own_s
