"""The recorder: lets a core handle its events, and keeps those of the last hour, bounded, with what the core read.

It keeps up to four stretches. Each begins with the whole state of the core, so that the oldest one can be dropped: when
the newest is 20 minutes long, or has many bytes. A running hash of all effects stands with each event.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from commonwatt.config.settings import GatewaySettings
from commonwatt.model.effects import Effect, Publish
from commonwatt.model.ids import MeterId
from commonwatt.model.units import EpochSeconds, MicrogridId
from commonwatt.sqlite.damage import SqliteError
from commonwatt.town.registry import RegisteredMeter
from gateway.changes import Change
from gateway.controller import Controller
from gateway.events import Event
from gateway.recorder.pickled import UNWRITABLE, dumps, framed
from gateway.recorder.tape import Tape
from gateway.stored import Stored
from gateway.takeover.member import Member

STRETCHES = 4  # stretches that are kept
STRETCH_S = 1200  # seconds of events in a stretch
MOST_BYTES = 2_000_000  # most bytes of the stretches together
FRAME_BYTES = 64 * 1024  # bytes of events that are compressed together

log = logging.getLogger(__name__)


@dataclass
class Stretch:
    """The events of a while, from a state of the core on."""

    since: EpochSeconds  # when it began, raw
    state: bytes  # the core at its begin and the hash until then, compressed
    frames: list[bytes] = field(default_factory=list)  # the compressed events, the oldest first
    open: list[bytes] = field(default_factory=list)  # the events that are not compressed yet
    open_bytes: int = 0  # bytes of those
    size_bytes: int = 0  # bytes that it takes without those

    def add(self, entry: bytes) -> None:
        """Add an event."""
        self.open.append(entry)
        self.open_bytes += len(entry)
        if self.open_bytes >= FRAME_BYTES:
            self.frames.append(framed(self.open))
            self.size_bytes += len(self.frames[-1])
            self.open, self.open_bytes = [], 0


class Recorder:
    """Lets a controller handle its events, and records them."""

    def __init__(
        self,
        settings: GatewaySettings,
        store: Stored,
        meters: dict[MeterId, RegisteredMeter],
        members: Mapping[MicrogridId, Member] | None = None,
    ) -> None:
        self.tape = Tape()  # records what the core reads
        taped = {name: self.tape.of(member) for name, member in (members or {}).items()}
        self.controller = Controller(settings, self.tape.of(store), meters, taped)  # the core
        self._stretches: list[Stretch] = []
        self._hash = bytes(8)
        self._works = True

    def handle(self, microgrid: MicrogridId, event: Event, raw: EpochSeconds) -> list[Effect[Change]]:
        """Let the core handle an event, as ``Controller.handle``, and record it."""
        if self._is_due(raw):
            self._record(lambda: self._begin(raw))
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
            self._hash = after = chained(self._hash, outcome)
            self._record(lambda: self._keep((raw, microgrid, event, reads, after)))

    def _record(self, call: Callable[[], None]) -> None:
        """Record something; if the core has what can't be recorded, go on without the recorder."""
        try:
            if self._works:
                call()
        except UNWRITABLE:
            self._works = False
            self._stretches = []
            log.exception("the core can't be recorded; it works without the flight recorder")

    def _keep(self, entry: tuple[EpochSeconds, MicrogridId, Event, list[bytes], bytes]) -> None:
        if self.tape.failed is not None:
            raise self.tape.failed
        self._stretches[-1].add(dumps(entry))

    def _is_due(self, raw: EpochSeconds) -> bool:
        last = self._stretches[-1] if self._stretches else None
        if last is None or not 0 <= raw - last.since < STRETCH_S:
            return True
        # A large state is not taken more often than it is worth.
        return last.size_bytes - len(last.state) >= max(len(last.state), MOST_BYTES // 8)

    def _begin(self, raw: EpochSeconds) -> None:
        """Begin a stretch, with the state before the next event."""
        state = framed([dumps((self.controller, self._hash))], level=1)
        kept = [*self._stretches[1 - STRETCHES :], Stretch(raw, state, size_bytes=len(state))]
        while len(kept) > 1 and sum(each.size_bytes for each in kept) > MOST_BYTES * 3 / 4:
            kept.pop(0)
        self._stretches = kept

    @property
    def size_bytes(self) -> int:
        """Bytes of memory that the events take."""
        return sum(each.size_bytes + each.open_bytes for each in self._stretches)

    @property
    def since(self) -> EpochSeconds:
        """From when on all events are kept, raw; 0: none is."""
        return self._stretches[0].since if self._stretches else 0

    def frames(self) -> list[bytes]:
        """Return what is recorded: the oldest state, then frames of events; empty: nothing is."""
        found = [frame for each in self._stretches for frame in (*each.frames, framed(each.open))]
        return [self._stretches[0].state, *found] if self._stretches else []


def chained(before: bytes, outcome: Sequence[Effect[Change]] | Exception) -> bytes:
    """Return the hash of an outcome and of all before it."""
    digest = blake2b(before, digest_size=8)
    if isinstance(outcome, Exception):
        digest.update((SqliteError if isinstance(outcome, SqliteError) else type(outcome)).__name__.encode())
    else:
        for effect in outcome:
            digest.update(told(effect).encode(errors="replace") + b"\n")
    return digest.digest()


def told(effect: Effect[Change]) -> str:
    """Return an effect as a line of text."""
    if isinstance(effect, Publish):
        return f"publish {effect.topic} {effect.payload!r}"
    return f"write {effect.change!r}"
