"""Bounds of the ingest (pure, C6): whether it lags, so that gateways relay less, and the rate of dead letters.

Overload begins when the oldest waiting message was older than ``LATE_S`` for ``LATE_FOR_S``, and ends after ``SLOW_S``
below ``GOOD_S``. Until then each acknowledgement slows its gateway down for ``SLOW_S``. That ends by itself: neither a
lost message nor a restart nor a dead utility leaves a gateway slow for longer.
"""

from commonwatt.protocol.batches import SLOW_S
from commonwatt.runtime.fair_queue import Bucket

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


# Dead letters of a gateway in a real second in the long run, half a percent of the writing thread; and at once.
PER_S, BURST = 200, 1000
MAX_WAITING, MAX_WAITING_OF_ALL = 8, 64  # most batches that wait, of a gateway and of all; an honest one has four


class BatchPace:
    """The rate of each gateway, and the batches that wait."""

    def __init__(self) -> None:
        self._buckets: dict[str, Bucket] = {}
        self._waits: list[tuple[str, float]] = []

    def wait_s(self, sender: str, dead_letters: int, now: float) -> float | None:
        """Return for how long a batch is to wait before the queue; ``None``: too many wait, so it is dropped."""
        if not dead_letters:
            return 0.0
        self._waits = [(who, until) for who, until in self._waits if until > now]
        its = sum(who == sender for who, _ in self._waits)
        if its >= MAX_WAITING or len(self._waits) >= MAX_WAITING_OF_ALL:
            return None
        wait_s = self._buckets.setdefault(sender, Bucket(PER_S, BURST, BURST, now)).take(dead_letters, now)
        if wait_s:
            self._waits.append((sender, now + wait_s))
        return wait_s
