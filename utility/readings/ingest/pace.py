"""Bounds the rate at which a gateway's dead letters come into the ingest's queue. Pure: the caller passes the time."""

from commonwatt.runtime.bucket import Bucket

# Dead letters of a gateway in a real second in the long run, half a percent of the writing thread; and at once.
PER_S, BURST = 200, 1000
MAX_WAITING, MAX_WAITING_OF_ALL = 8, 64  # most batches that wait, of a gateway and of all; an honest one has four


class Pace:
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
