"""The recorder: lets a core handle its events, and keeps those of the last hour, bounded, with what the core read.

It keeps stretches. Each begins with the whole state of the core, so that the oldest one can be dropped. A running hash
of all effects stands with each event. Whatever fails in it, the core's effects are performed.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TypeAlias

from commonwatt.config.settings import GatewaySettings
from commonwatt.model.effects import Effect, Publish
from commonwatt.model.ids import MeterId
from commonwatt.model.units import EpochSeconds, MicrogridId
from commonwatt.sqlite.damage import SqliteError
from commonwatt.town.registry import RegisteredMeter
from gateway.changes import Change
from gateway.controller import Controller
from gateway.events import Event
from gateway.recorder.pickled import RecordingError, dumps, framed
from gateway.recorder.tape import Read, Tape
from gateway.stored import Stored
from gateway.takeover.member import Member

KEPT_S = 3600  # seconds of events that are kept, at least, if they fit
STRETCH_S = 1200  # seconds of events in a stretch
MOST_BYTES = 2_000_000  # most bytes of the stretches together
MOST_STATE_BYTES = MOST_BYTES * 2 // 5  # most bytes of a core's state, compressed, with which it is recorded
FRAME_BYTES = 64 * 1024  # bytes of events that are compressed together

Outcome: TypeAlias = list[Effect[Change]] | Exception  # what the core did with an event

log = logging.getLogger(__name__)


@dataclass
class Stretch:
    """The events of a while, from a state of the core on."""

    since: EpochSeconds  # when it began, raw
    state: bytes  # the core at its begin and the hash until then, compressed
    frames: list[bytes] = field(default_factory=list)  # the compressed events, the oldest first
    open: list[bytes] = field(default_factory=list)  # the events that are not compressed yet
    open_bytes: int = 0  # bytes of those
    size_bytes: int = 0  # bytes that it takes

    def add(self, entry: bytes) -> None:
        """Add an event."""
        self.open.append(entry)
        self.open_bytes += len(entry)
        self.size_bytes += len(entry)
        if self.open_bytes >= FRAME_BYTES:
            self.frames.append(framed(self.open))
            self.size_bytes += len(self.frames[-1]) - self.open_bytes
            self.open, self.open_bytes = [], 0

    def is_long(self, raw: EpochSeconds) -> bool:
        """Return whether the next event begins another stretch: a large state not more often than it is worth."""
        large = min(max(MOST_BYTES // 4, 2 * len(self.state)), MOST_BYTES // 2)
        return not 0 <= raw - self.since < STRETCH_S or self.size_bytes >= large


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
        self.stretches: list[Stretch] = []  # what is kept, the oldest first
        self._hash = bytes(8)
        self._works = True

    def handle(self, microgrid: MicrogridId, event: Event, raw: EpochSeconds) -> list[Effect[Change]]:
        """Let the core handle an event, as ``Controller.handle``, and record it."""
        self._record(lambda: self._begin(raw))
        reads: list[Read] = []
        self.tape.reads = reads if self._works else None
        outcome: Outcome = []
        try:
            outcome = self.controller.handle(microgrid, event, raw)
        except Exception as error:
            outcome = error
            raise
        else:
            return outcome
        finally:
            self.tape.reads = None
            self._record(lambda: self._keep((raw, microgrid, event, reads), outcome))

    def _record(self, call: Callable[[], None]) -> None:
        """Record something; after an error go on without the recorder."""
        try:
            if self._works:
                call()
        except Exception:
            self._works = False
            self.stretches = []
            log.exception("the core can't be recorded; it works without the flight recorder")

    def _begin(self, raw: EpochSeconds) -> None:
        """Begin a stretch, with the state before the next event, if one is due."""
        if self.stretches and not self.stretches[-1].is_long(raw):
            return
        state = framed([dumps((self.controller, self._hash))], level=1)
        if len(state) > MOST_STATE_BYTES:
            raise RecordingError(f"its state takes {len(state)} bytes")
        kept = self.stretches
        while len(kept) > 1 and raw - kept[1].since >= KEPT_S:
            kept = kept[1:]
        self.stretches = [*kept, Stretch(raw, state, size_bytes=len(state))]

    def _keep(self, seen: tuple[EpochSeconds, MicrogridId, Event, list[Read]], outcome: Outcome) -> None:
        if self.tape.failed is not None:
            raise self.tape.failed
        self._hash = chained(self._hash, outcome)
        self.stretches[-1].add(dumps((*seen, self._hash)))
        while self.size_bytes > MOST_BYTES:  # One event that takes more than all drops itself, too.
            self.stretches = self.stretches[1:]

    @property
    def size_bytes(self) -> int:
        """Bytes of memory that the events take."""
        return sum(each.size_bytes for each in self.stretches)

    def frames(self) -> list[bytes]:
        """Return what is recorded: the oldest state, then frames of events; empty: nothing is."""
        kept = self.stretches  # Another thread may ask: the list itself never changes.
        found = [frame for each in kept for frame in (*each.frames, framed(each.open))]
        return [kept[0].state, *found] if kept else []


def chained(before: bytes, outcome: Outcome) -> bytes:
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
