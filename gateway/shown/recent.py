"""How much counters grew lately, as an alert's ``increase`` over its window; pure: the caller passes the time."""

from collections import deque
from collections.abc import Mapping

SAMPLE_EVERY_S = 60.0  # seconds between two samples that are kept
LONGEST_S = 3600.0  # longest window

ALARM_WINDOWS_S = {
    "records": 900,
    "dropped_messages": 900,
    "store_failures": 900,
    "stuck": 900,
    "time_contradictions": 3600,
    "faults": 3600,
}
"""The windows of the alerts in grafana/prometheus/rules.yml that watch a gateway's counters, seconds."""


class Recent:
    """Samples of counters that began at 0.

    Args:
        now: Seconds of a clock that only goes forward.
    """

    def __init__(self, now: float) -> None:
        self._samples: deque[tuple[float, Mapping[str, int]]] = deque([(now, {})])
        self._last: tuple[float, Mapping[str, int]] = self._samples[0]

    def look(self, counts: Mapping[str, int], now: float) -> None:
        """Take the counters' present values."""
        self._last = now, dict(counts)
        if now - self._samples[-1][0] >= SAMPLE_EVERY_S:
            self._samples.append(self._last)
        while len(self._samples) > 1 and now - self._samples[1][0] >= LONGEST_S:
            self._samples.popleft()

    @property
    def watched_s(self) -> int:
        """Seconds since the start, up to the longest window."""
        return int(min(LONGEST_S, self._last[0] - self._samples[0][0]))

    def increase(self, name: str, window_s: float) -> int:
        """Return by how much a counter grew within the window, or since the start if that is shorter."""
        now, counts = self._last
        before = [old for time, old in self._samples if now - time >= window_s]
        base = before[-1] if before else self._samples[0][1]
        value, then = counts.get(name, 0), base.get(name, 0)
        return value - then if value >= then else value  # A new core after a failure of the store counts from 0.
