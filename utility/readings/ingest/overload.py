"""Whether the utility lags, so that gateways are to relay whole quarter-hours only (pure, C6).

It begins when the oldest waiting message was older than ``LATE_S`` for ``LATE_FOR_S``, and ends after ``SLOW_S`` below
``GOOD_S``. Until then each acknowledgement slows its gateway down for ``SLOW_S``. That ends by itself: neither a lost
message nor a restart nor a dead utility leaves a gateway slow for longer.
"""

from commonwatt.protocol.batches import SLOW_S

LATE_S = 60  # age of the oldest waiting message, seconds, above which the utility is late
LATE_FOR_S = 300  # seconds for which it must be late
GOOD_S = 10  # age of the oldest waiting message, seconds, from which gateways are slowed down again


class Overload:
    """Judges the age of the oldest waiting message."""

    def __init__(self) -> None:
        self._late_since: float | None = None
        self._until = 0.0

    def lags(self, now: float) -> bool:
        """Return whether gateways are slow now; not after the clock was set back."""
        return 0 < self._until - now <= SLOW_S

    def look(self, oldest_s: float, now: float) -> int:
        """Return for how long gateways are slowed, seconds, by the age of the oldest message; 0: they are not."""
        if oldest_s <= LATE_S:
            self._late_since = None
        elif self._late_since is None or self._late_since > now:
            self._late_since = now
        is_late = self._late_since is not None and now - self._late_since >= LATE_FOR_S
        if not is_late and not (oldest_s >= GOOD_S and self.lags(now)):
            return 0
        self._until = now + SLOW_S
        return SLOW_S
