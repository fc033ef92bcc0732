"""What happened in a simulated world: every event, hashed; the last of them kept, to be read."""

import hashlib
from collections import Counter, deque

KEPT = 4_000
"""Events kept; all of them are in the hash."""

SHOWN = 60
"""Events shown when something went wrong."""


class Violation(AssertionError):  # noqa: N818 - it says what it is
    """Something that must always hold did not.

    Attributes:
        seed: The seed of the world.
        what: Which invariant, and how.
        story: The last events before.
    """

    def __init__(self, seed: int, what: str, story: list[str], replay: str) -> None:
        self.seed = seed
        self.what = what
        self.story = story
        lines = [f"seed {seed}: {what}", "", *story[-SHOWN:], "", f"replay: {replay}"]
        super().__init__("\n".join(lines))


class Story:
    """The event log of one world.

    Attributes:
        counts: How often what happened.
        now: The world's time, seconds since its start.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.now = 0.0
        self._hash = hashlib.sha256()
        self._last: deque[tuple[float, str, str]] = deque(maxlen=KEPT)

    def tell(self, who: str, what: str) -> None:
        """Note an event."""
        self._hash.update(f"{self.now:.3f}|{who}|{what}\n".encode())
        self._last.append((self.now, who, what))

    def count(self, what: str) -> None:
        """Count something."""
        self.counts[what] += 1

    @property
    def digest(self) -> str:
        """The hash of all events so far (I12)."""
        return self._hash.hexdigest()

    def lines(self) -> list[str]:
        """Return the events kept, readable."""
        return [f"{_clock(time)}  {who:<10} {what}" for time, who, what in self._last]


def _clock(time: float) -> str:
    hours, rest = divmod(time, 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{int(hours)}:{int(minutes):02d}:{seconds:06.3f}"
