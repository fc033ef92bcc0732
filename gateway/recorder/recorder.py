"""The recorder: gives a core its inputs and keeps those of the last half hour to hour, bounded, with what it read.

It keeps two stretches. Each begins with the whole state of the core, so that the older one can be dropped: after half
an hour, or when the newer one has half of the bytes. A running hash of the effects stands with each input.
"""

import logging
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from commonwatt.config.settings import GatewaySettings
from commonwatt.model.effects import Effect, Publish
from commonwatt.model.ids import MeterId
from commonwatt.model.units import EpochSeconds, MicrogridId
from commonwatt.town.registry import RegisteredMeter
from gateway.changes import Change
from gateway.controller import Controller
from gateway.events import Event
from gateway.recorder.pickled import dumps, framed
from gateway.recorder.tape import Tape
from gateway.stored import Stored
from gateway.takeover.member import Member

STRETCH_S = 1800  # seconds of inputs in a stretch
MOST_BYTES = 2_000_000  # most bytes of both stretches together
FRAME_BYTES = 128 * 1024  # bytes of inputs that are compressed together

log = logging.getLogger(__name__)


@dataclass
class Stretch:
    """The inputs of a while, from a state of the core on."""

    since: EpochSeconds  # when it began, raw
    state: bytes  # the core at its begin and the hash until then, compressed
    frames: list[bytes] = field(default_factory=list)  # the compressed inputs, the oldest first
    open: list[bytes] = field(default_factory=list)  # the inputs that are not compressed yet
    open_bytes: int = 0  # bytes of those
    frame_bytes: int = 0  # bytes of the frames

    @property
    def size_bytes(self) -> int:
        """Bytes that it takes."""
        return len(self.state) + self.frame_bytes + self.open_bytes

    def add(self, entry: bytes) -> None:
        """Add an input."""
        self.open.append(entry)
        self.open_bytes += len(entry)
        if self.open_bytes >= FRAME_BYTES:
            self.frames.append(framed(self.open))
            self.frame_bytes += len(self.frames[-1])
            self.open, self.open_bytes = [], 0


class Recorder:
    """Gives a controller its inputs, and records them."""

    def __init__(
        self,
        settings: GatewaySettings,
        store: Stored,
        meters: dict[MeterId, RegisteredMeter],
        members: Mapping[MicrogridId, Member] | None = None,
    ) -> None:
        self.tape = Tape()  # records what the core reads
        taped = {name: self.tape.member(member) for name, member in (members or {}).items()}
        self.controller = Controller(settings, self.tape.store(store), meters, taped)  # the core
        self._stretches: list[Stretch] = []
        self._hash = bytes(8)
        self._failed = False

    def handle(self, microgrid: MicrogridId, event: Event, raw: EpochSeconds) -> list[Effect[Change]]:
        """Let the core handle an event, as ``Controller.handle``, and record it."""
        self._begin(raw)
        reads: list[bytes] = []
        self.tape.reads = reads
        outcome: list[Effect[Change]] | Exception = []
        try:
            outcome = self.controller.handle(microgrid, event, raw)
        except Exception as error:
            outcome = error
            raise
        else:
            return outcome
        finally:
            self.tape.reads = None
            self._hash = chained(self._hash, outcome)
            if not self._failed:
                self._stretches[-1].add(dumps((raw, microgrid, event, reads, self._hash)))

    def _begin(self, raw: EpochSeconds) -> None:
        """Begin a stretch, if it is time, with the state before the next input."""
        if self._failed:
            return
        if self._stretches:
            last = self._stretches[-1]
            if 0 <= raw - last.since < STRETCH_S and last.size_bytes < MOST_BYTES / 2:
                return
        try:
            state = framed([dumps((self.controller, self._hash))])
        except (pickle.PicklingError, TypeError, AttributeError):
            self._failed = True
            self._stretches.clear()
            log.exception("the core can't be recorded; it works without the flight recorder")
            return
        self._stretches = [*self._stretches[-1:], Stretch(raw, state)]

    @property
    def size_bytes(self) -> int:
        """Bytes of memory that the inputs take."""
        return sum(each.size_bytes for each in self._stretches)

    def frames(self) -> list[bytes]:
        """Return what is recorded: the oldest state, then frames of inputs; empty: nothing is."""
        found = [frame for each in self._stretches for frame in (*each.frames, framed(each.open))]
        return [self._stretches[0].state, *found] if self._stretches else []


def chained(before: bytes, outcome: Sequence[Effect[Change]] | Exception) -> bytes:
    """Return the hash of an outcome and of all before it."""
    digest = blake2b(before, digest_size=8)
    for line in [type(outcome).__name__] if isinstance(outcome, Exception) else map(told, outcome):
        digest.update(line.encode(errors="replace") + b"\n")
    return digest.digest()


def told(effect: Effect[Change]) -> str:
    """Return an effect as a line of text."""
    if isinstance(effect, Publish):
        return f"publish {effect.topic} {effect.payload!r}"
    return f"write {effect.change!r}"
