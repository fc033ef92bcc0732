"""What a gateway stores: changes that the core writes, read-only views, marks of the utility, and upkeep.

The core changes nothing through the views: it returns each change as a ``Write``.

What was acknowledged under which marks of the utility's store, and what of it the store does not have any more.
See docs/stores.md ("A database that went back"). The store keeps stretches of acknowledgements, in order of arrival.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

from commonwatt.model.effects import Effect, Write
from commonwatt.model.records import EventRecord, HistoryRecord, Log
from commonwatt.model.units import ENOUGH_BYTES, LOW_BYTES, EpochSeconds, MeterId, MilliwattHours, Quarter, unsigned64
from commonwatt.protocol.batches import Mark
from commonwatt.protocol.commands import Epoch, Kind
from commonwatt.protocol.dead_letters import MAX_DEAD_LETTER_BYTES, DeadLetter, DeadLetterSource, LocalReason

if TYPE_CHECKING:
    from gateway.store.reads import StoreReads

RELAYED_SLOTS = "relayed_slots"  # setting that counts the slots the utility acknowledged

# Any two of these numbers differ in two bits, so that a single flipped bit never turns one into another. Any other
# number is treated as OFFERED: the block is sent again, whole and exact, which never does harm.

UNSENT = 0  # the utility has not acknowledged it
OFFERED = 3
"""The utility has not acknowledged it, but averages of its block, or an answer with all of it, were sent: the block is
sent exact and whole next time, since it is unknown what the utility has of it."""
AVERAGED = 5  # the utility acknowledged averages of its block; its exact slots may still be sent
DONE = 6  # the utility acknowledged it; kept as backup


@dataclass(frozen=True)
class Part:
    """A stored part of a block."""

    id: int  # its number in the store; 0 before it has one
    key: tuple[int, int, int]  # (meter, record type, quarter)
    payload: bytes  # as packed by ``commonwatt.codec.packing``
    relayed: int = UNSENT  # ``UNSENT``, ``OFFERED``, ``AVERAGED`` or ``DONE``
    joined: bool = False  # whether compaction made it from the parts of a finished quarter


@dataclass(frozen=True)
class AppendParts:
    """Add parts."""

    parts: tuple[Part, ...]
    instead_of: tuple[int, ...] = ()  # numbers of the parts that they join; these are deleted


@dataclass(frozen=True)
class AppendRecords:
    """Add accepted records; all records of a transaction together become parts, usually one for each block."""

    records: tuple[HistoryRecord, ...]


@dataclass(frozen=True)
class DropBackup:
    """Delete the listed rows that the utility acknowledged; other listed rows stay."""

    parts: tuple[int, ...] = ()  # numbers of parts
    events: tuple[int, ...] = ()  # row numbers of events
    dead_letters: tuple[int, ...] = ()  # numbers of dead letters


@dataclass(frozen=True)
class DropDamaged:
    """Delete a damaged row; ``AddDeadLetters`` keeps its content."""

    table: str  # its table
    row: int  # its row number


@dataclass(frozen=True)
class AppendEvents:
    """Add events; an event that is already stored stays."""

    events: tuple[tuple[int, EventRecord], ...]


@dataclass(frozen=True)
class AddDeadLetters:
    """Add dead letters; one that is already stored is not added again."""

    dead_letters: tuple[DeadLetter, ...]


@dataclass(frozen=True)
class Cover:
    """Record that ids ``first`` to ``last`` of a meter's log are in the store."""

    meter: MeterId
    log: Log
    generation: int
    first: int
    last: int


@dataclass(frozen=True)
class MeterInfo:
    """A meter's settings, as its command outcomes report them."""

    meter: MeterId  # the meter
    push: bool  # whether it sends without a request (its manual switch)
    minimum_percent: int | None  # its sharing minimum; ``None`` without a battery
    capacity: MilliwattHours | None  # its battery's capacity, milliwatt-hours; ``None`` without a battery
    time: EpochSeconds  # time of the report (T6); 0: the gateway's clock was not trusted then


@dataclass(frozen=True)
class Desired:
    """One desired state of one meter, outstanding until ``confirmed`` or past its end."""

    meter: MeterId  # the meter
    kind: Kind  # the kind of state
    value: str  # the desired value
    epoch: Epoch  # the epoch of its command
    seq: int  # its sequence number within the kind
    until: EpochSeconds | None  # when it ends; ``None``: never
    weight: int | None = None  # share of the discharge relative to other donors
    confirmed: bool = False  # whether the meter reported this pair
    # Whether its meter was sent a duration, not an end time: while this process runs, its end is shifted when the time
    # is set. The store keeps ``until`` only.
    for_s: bool = False


@dataclass(frozen=True)
class ForgetDesired:
    """Forget desired states: another controller commanded the meters meanwhile, or an older version goes on."""

    kind: Kind | None = None  # only those of a kind; ``None``: all


@dataclass(frozen=True)
class Offered:
    """Mark unsent parts as ``OFFERED``, before averages or an answer with them are sent."""

    parts: tuple[int, ...] = ()  # numbers of parts
    since: Quarter | None = None  # all parts of this and later quarters too


@dataclass(frozen=True)
class Relayed:
    """Record what the utility acknowledged."""

    done: tuple[int, ...]  # numbers of parts that the utility has exactly
    averaged: tuple[int, ...]  # numbers of parts of which the utility has averages
    events: tuple[tuple[int, int, int], ...]  # (meter, generation, id)
    dead_letters: tuple[int, ...]  # numbers of dead letters
    slots: int  # number of slots with values in the batch
    mark: Mark | None = None  # the mark of the utility's store in the acknowledgement; ``None``: an older utility
    period: int = 0  # the hour of the acknowledgement


@dataclass(frozen=True)
class ForgetRelayed:
    """Record that the utility has lost data: present rows are sent again, blocks exact and whole.

    This only records the last row numbers; ``ForgetMore`` marks the rows, the newest first, until
    ``StoreReads.forgetting`` is 0.
    """

    part: int = 0  # the lowest number of a part that is sent again; events and dead letters are all sent again
    kept: int = 0  # stretches of acknowledgements (``gateway.store.changes``) that still count


@dataclass(frozen=True)
class ForgetMore:
    """Mark as not acknowledged the next ``rows`` parts, events and dead letters that ``ForgetRelayed`` covers."""

    rows: int


@dataclass(frozen=True)
class PeriodDone:
    """Record that a job's period is done, so that it is not done again after a restart."""

    job: str
    period: int


@dataclass(frozen=True)
class Setting:
    """Store a small value by name."""

    key: str
    value: str


Change: TypeAlias = (
    AppendParts
    | AppendRecords
    | DropBackup
    | DropDamaged
    | AppendEvents
    | AddDeadLetters
    | Cover
    | MeterInfo
    | Desired
    | ForgetDesired
    | Offered
    | Relayed
    | ForgetRelayed
    | ForgetMore
    | PeriodDone
    | Setting
)

Key = tuple[int, int, int]  # a block: (meter, record type, quarter)


@dataclass(frozen=True)
class DamagedRow:
    """A row whose content is not what was written."""

    table: str  # its table
    row: int  # its row number
    content: tuple[Any, ...]  # its columns as they could be read


class KeptSettings(Protocol):
    """Settings by name."""

    def setting(self, key: str) -> str | None:
        """Return a value kept by ``Setting``."""


Stored: TypeAlias = "StoreReads"
"""All that a core reads. The class is known to type checkers alone: at run time no core loads the database."""


ACKNOWLEDGED = "acknowledged"  # setting: the stretches, as JSON; it changes about once an hour
MARK = "mark"  # setting: the newest mark, "run,counter", which is also the newest stretch's last one
RUN = "utility_run"  # setting: the run of the utility's store with whose history this store was last compared

STRETCH_S = 3600  # longest stretch, seconds
KEPT = 72  # stretches that are kept: three days; after a database that went back further, everything is sent again


class AckStretch(NamedTuple):
    """The acknowledgements of some time within one run of the utility's store."""

    period: int  # the hour in which they came
    run: int  # the run
    first: int  # the lowest counter
    last: int  # the highest counter
    part: int  # the lowest number of a part among them


class LostData(NamedTuple):
    """What the utility lost."""

    part: int  # parts from this number on, of those that are acknowledged; 0: all
    kept: int  # how many stretches it has whole


def mark_of(text: str | None) -> Mark | None:
    """Return the mark in the setting ``MARK``."""
    if text is None:
        return None
    run, counter = map(int, text.split(","))
    return run, counter


def stretches(store: KeptSettings) -> list[AckStretch]:
    """Return the stretches that a store keeps."""
    kept = [AckStretch(*row) for row in json.loads(store.setting(ACKNOWLEDGED) or "[]")]
    mark = mark_of(store.setting(MARK))
    if kept and mark is not None and kept[-1].run == mark[0]:
        kept[-1] = kept[-1]._replace(last=max(kept[-1].last, mark[1]))
    return kept


def grown(kept: Sequence[AckStretch], mark: Mark, period: int, part: int) -> list[AckStretch]:
    """Return the stretches with one more acknowledgement."""
    run, counter = mark
    if not kept or (kept[-1].period, kept[-1].run) != (period, run):
        return [*kept, AckStretch(period, run, counter, counter, part)][-KEPT:]
    newest = kept[-1]
    first, last = min(newest.first, counter), max(newest.last, counter)
    return [*kept[:-1], newest._replace(first=first, last=last, part=min(newest.part, part))]


def missing(store: KeptSettings, marks: Sequence[Mark], *, is_new: bool) -> LostData | None:
    """Return what a store of the utility lacks, by the marks of its acknowledgement; ``None``: nothing.

    Without stretches it is unknown what was acknowledged when; a gateway that never had any has the same store.
    """
    kept = stretches(store)
    return LostData(0, 0) if not marks or (is_new and not kept) else lost(kept, dict(marks[1:]))


def lost(kept: Sequence[AckStretch], history: Mapping[int, int]) -> LostData | None:
    """Return what a store of the utility lacks; ``None``: nothing.

    Args:
        history: By run that the utility's store has, its last counter there.
    """
    for at, stretch in enumerate(kept):
        if stretch.last > history.get(stretch.run, -1):
            # Before the first stretch there may be others, no longer kept.
            whole = at or stretch.first <= history.get(stretch.run, -1)
            return LostData(min(later.part for later in kept[at:]), at) if whole else LostData(0, 0)
    return None


MAX_DEAD_LETTERS_A_DAY = 1000  # damaged rows kept as dead letters in a day; further ones are only counted
EXAMINED_PARTS = 100  # parts checked at a time, in under a millisecond
EXAMINE_EVERY = 6  # turns, each of 5 s: a million parts in 3.5 days
SHORT_SLICE_PARTS = 5000  # parts deleted in one turn while the disk is full
SLICE_PARTS = 500  # parts deleted in one turn, few enough not to delay other work


class Upkeep:
    """Checks the store and limits its size, a slice at a time."""

    def __init__(self, store: Stored, backup_bytes: int) -> None:
        self.damaged: Counter[str] = Counter()  # damaged rows found, by table
        self.dropped = 0  # acknowledged parts deleted to free space
        self.short = False  # whether disk space is too low for more records; other changes are still written
        self._store = store
        self._backup_bytes = backup_bytes
        self._examined = self._turns = 0
        self._is_too_large = False
        self._day = 0
        self._dead_letters = 0

    def turn(self) -> list[Effect[Change]]:
        """Check the next parts; delete the oldest acknowledged data if the backup is too large or the disk full."""
        is_examined = self._turns % EXAMINE_EVERY == 0
        if is_examined:
            self._examined = self._store.examine(self._examined, EXAMINED_PARTS)
        self._turns += 1
        if self.short:
            return self._drop(SHORT_SLICE_PARTS)
        if is_examined or self._is_too_large:
            self._is_too_large = self._store.used_bytes() > self._backup_bytes
        return self._drop() if self._is_too_large else []

    def disk_space(self, free_bytes: int) -> bool:
        """Set the free bytes on the disk; return whether ``short`` changed.

        Free pages within the file count too: SQLite uses them before the file grows.
        """
        before = self.short
        needed = ENOUGH_BYTES if before else LOW_BYTES
        self.short = free_bytes < needed and free_bytes + self._store.free_bytes() < needed
        return self.short != before

    def _drop(self, step: int = SLICE_PARTS) -> list[Effect[Change]]:
        """Delete acknowledged data: first dead letters (the utility has them), then parts, last events."""
        if dead_letters := self._store.oldest_acknowledged("letter", step):
            return [Write(DropBackup(dead_letters=dead_letters))]
        if oldest := self._store.oldest_backup(step):
            self.dropped += len(oldest)
            return [Write(DropBackup(oldest))]
        events = self._store.oldest_acknowledged("event", step)
        return [Write(DropBackup(events=events))] if events else []

    def clear(self, now: EpochSeconds) -> list[Effect[Change]]:
        """Delete the damaged rows that were found; keep their content as dead letters, up to the daily limit."""
        effects: list[Effect[Change]] = []
        if now // 86_400 != self._day:
            self._day, self._dead_letters = now // 86_400, 0
        for row in list(self._store.damaged.values()):
            self.damaged[row.table] += 1
            self._dead_letters += 1
            effects.append(Write(DropDamaged(row.table, row.row)))
            if self._dead_letters <= MAX_DEAD_LETTERS_A_DAY and row.table != "letter":
                effects.append(Write(AddDeadLetters((dead_letter_about(row, now),))))
        return effects


def dead_letter_about(row: DamagedRow, now: EpochSeconds) -> DeadLetter:
    """Return a dead letter with a damaged row's table and columns, as text."""
    meter = row.content[0] if row.content else None
    content = repr((row.table, *row.content)).encode(errors="replace")
    return DeadLetter(
        meter=unsigned64(meter) if isinstance(meter, int) else 0,
        log=DeadLetterSource.UNKNOWN,
        reason=LocalReason.DAMAGED_AT_GATEWAY,
        generation=0,
        record_id=row.row,
        time=now,
        content=content[:MAX_DEAD_LETTER_BYTES],
    )
