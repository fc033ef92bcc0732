"""The event log of a simulated world: a hash of all events, and the text of the last ones."""

import hashlib
import zlib
from collections import Counter, deque
from collections.abc import Sequence

from commonwatt.model.effects import Publish
from harness.world.wording import wording

KEPT = 20_000  # events kept; all of them are in the hash
SHOWN = 60  # events shown for a violation; as many again of the meter concerned


class Violation(AssertionError):  # noqa: N818 - it says what it is
    """A violated invariant."""

    def __init__(self, seed: int, what: str, story: str, replay: str, struck: tuple[str, ...]) -> None:
        self.seed = seed  # the seed of the world
        self.what = what  # the invariant, and how it was violated
        self.struck = struck  # the names of the faults that happened
        self._parts = seed, what, story, replay, struck
        super().__init__(f"seed {seed}: {what}\n\n{story}\n\nreplay: {replay}")

    def __reduce__(self) -> tuple[type["Violation"], tuple[int, str, str, str, tuple[str, ...]]]:
        """Support pickling, so that it can be sent between processes."""
        return Violation, self._parts

    @property
    def invariant(self) -> str:
        """The name of the invariant, or of what failed."""
        return self.what.partition(":")[0]


class Story:
    """The event log of one world."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()  # number of events by kind
        self.now = 0.0  # the world's time, seconds since its start
        self._hash = hashlib.sha256()
        # The text of a message is made only for printing.
        self._last: deque[tuple[float, str, str, Publish | None]] = deque(maxlen=KEPT)

    def tell(self, who: str, what: str, message: Publish | None = None) -> None:
        """Record an event and its message."""
        about = f"|{message.topic}|{zlib.crc32(message.payload)}" if message else ""
        self._hash.update(f"{self.now:.3f}|{who}|{what}{about}\n".encode())
        self._last.append((self.now, who, what, message))

    def count(self, what: str) -> None:
        """Count something."""
        self.counts[what] += 1

    @property
    def digest(self) -> str:
        """The hash of all events so far (I12)."""
        return self._hash.hexdigest()

    def text(self, about: Sequence[str] = ()) -> str:
        """Return the last events, and before them earlier events that name one of ``about``."""
        lines = [_line(*event) for event in self._last]
        latest = lines[-SHOWN:]
        concerned = [line for line in lines[:-SHOWN] if any(name in line for name in about)][-SHOWN:]
        if concerned:
            latest = [f"Earlier, of {' and '.join(about)}:", *concerned, "", "At last:", *latest]
        return "\n".join(latest)


def _line(time: float, who: str, what: str, message: Publish | None) -> str:
    hours, rest = divmod(time, 3600)
    minutes, seconds = divmod(rest, 60)
    said = wording(message) if message else ""
    return f"{int(hours)}:{int(minutes):02d}:{seconds:06.3f}  {who:<10} {said}{' ' if said and what else ''}{what}"
