"""The event log of a simulated world: what must hold, a hash of all events, and the last ones in words."""

import hashlib
import json
import zlib
from collections import Counter, deque
from collections.abc import Callable, Sequence

from commonwatt.model.effects import Publish
from commonwatt.model.exceptions import ProtocolError
from commonwatt.protocol.batches import unpack_batch, unpack_batch_ack
from commonwatt.protocol.meter_messages import unpack_level, unpack_put, unpack_put_ack
from commonwatt.protocol.topics import ACKS, BATCHES, COMMANDS, EVENTS, LEVELS, OUTCOMES, RECORDS, STATUS

INVARIANTS: dict[str, str] = {
    "I1": "What a gateway acknowledged is in its store after any crash, or still at the meter.",
    "I2": "What the utility acknowledged is committed.",
    "I3": "Nothing is deleted, or told as relayed, before the next one has it.",
    "I5": "Each slot is exact, averaged or missing with a reason: no silent gap, no damaged value.",
    "I6": "After all faults everything arrives, within a bound: nothing lost, nothing doubled, nothing invented.",
    "I7": "A meter's epoch never goes back; a command is obeyed once, and never after its end.",
    "I8": "Of two managers, the commands of one take effect.",
    "I10": "Memory, queues, messages and stores stay under their bounds.",
    "E1": "Nothing flows to or from a feeder that is dead.",
    "E2": "The switch of a boundary opens when its feeder dies.",
    "E3": "A switch closes after stable voltage alone, and not onto a dead line.",
    "E4": "A microgrid becomes an island for a cause alone.",
    "E5": "No battery gives below its owner's minimum, and none shares without a command.",
    "E6": "The emergency services are not rationed.",
    "E7": "A quarter-hour's purchase is decided once, and bought to the milliwatt-hour.",
    "E8": "Imports stay under the limit in force, and the limit ends with the supply's.",
    "E9": "Nothing is ordered on a report of the boundary from before a start.",
    "M1": "Settled energies and bills are those of the readings, by another implementation, to the cent.",
    "M2": "A period is decided once.",
    "M3": "No page shows a damaged value, and what is filed is what was stored.",
    "I-a": "No meter goes back to an earlier epoch.",
    "I-b": "A controller commands under an epoch that was granted to it, once, and that its store has.",
    "I-c": "A controller that was stopped commands once its epoch is confirmed; two managers are soon one again.",
    "I-d": "A microgrid that a controller could manage is managed, within a bound, and by one at the end.",
    "I-e": "Meters obey the manager in force, and have no session with a revoked controller.",
    "I-g": "A recorded datagram counts for nothing.",
    "I-h": "One member's word lifts no counter out of reach.",
    "state": "A controller's states follow one another as documented.",
    "core": "No core and no store fails.",
}
"""By name. I: of data and commands; E: of energy; M: of money and months; I-a to I-h: of takeover."""


def wording(message: Publish) -> str:
    """Return a one-line description of a message."""
    *_, leaf = message.topic.split("/")
    to_meter = len(message.topic.split("/")) == 5
    try:
        said = _put_ack(message.payload) if leaf == ACKS and to_meter else _SAYING[leaf](message.payload)
    except (ProtocolError, ValueError, KeyError) as error:
        said = f"unreadable, {error}"
    return f"{message.topic.removeprefix('cw1/')}: {said}"


def _put(payload: bytes) -> str:
    put = unpack_put(payload)
    return f"{len(put.records)} records, ids {put.first_id} to {put.last_id} of generation {put.generation}"


def _put_ack(payload: bytes) -> str:
    ack = unpack_put_ack(payload)
    rejected = f", rejected {[(i, why.name) for i, why in ack.rejected]}" if ack.rejected else ""
    log = ack.log.name.lower()
    return (
        f"{ack.status.name} for {log} ids {ack.first_id} to {ack.last_id} of generation {ack.generation}{rejected},"
        f" at {ack.time} (trust {ack.trust.name})"
    )


def _level(payload: bytes) -> str:
    level = unpack_level(payload)
    return f"level {level.level} at {level.time}"


def _batch(payload: bytes) -> str:
    batch = unpack_batch(payload)
    quarters = sorted({key[2] for key in batch.keys})
    held = f"{len(batch.keys)} blocks, {len(batch.events)} events, {len(batch.dead_letters)} dead letters"
    return f"batch {batch.sequence:x}: {held}, quarters {quarters[:1]} to {quarters[-1:]} {batch.flags!s}"


def _batch_ack(payload: bytes) -> str:
    ack = unpack_batch_ack(payload)
    return f"{ack.status.name} for batch {ack.sequence:x}, by store {ack.utility_store:x}"


def _fields(*names: str) -> Callable[[bytes], str]:
    def said(payload: bytes) -> str:
        content = json.loads(payload)
        return " ".join(f"{name}={content[name]}" for name in names if content.get(name) is not None)

    return said


_COMMAND = ("cmd", "what", "mode", "state", "issuer", "epoch", "seq", "until", "for_s", "at", "id")
_SAYING: dict[str, Callable[[bytes], str]] = {
    RECORDS: _put,
    EVENTS: _put,
    LEVELS: _level,
    BATCHES: _batch,
    ACKS: _batch_ack,
    COMMANDS: _fields(*_COMMAND),
    OUTCOMES: _fields("cmd", "result", "reason", "epoch", "bits", "id"),
    STATUS: _fields("backlog_parts", "backlog_events", "backlog_letters", "aggregation"),
}

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
