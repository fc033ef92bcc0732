"""What goes to the utility next: whose turn it is, the content of a batch, and what was sent (C1, C6).

The utility must never have averages and exact slots of one group: a slot keeps its best value, and the mean of ten
slots beside nine of them is wrong. So averages of a block are sent only once, and only of quarters of which nothing
was sent before; the store records that before they are sent; later the block is only sent whole and exact, even once
the utility has acknowledged it so: its database may go back to the averages.

Turns of the microgrids that a controller hosts, on its one line to the utility (P3). Pure.
Live data goes at once. A backlog is sent a batch at a time, by the owner that has sent the fewest bytes for its weight.
An owner without a backlog saves up nothing. What is in flight is bounded for all owners together: at 1 Mbit/s live
data waits 4 s behind it at most.
"""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NamedTuple, Self

import numpy as np

from commonwatt.codec.packing import unpack
from commonwatt.model.blocks import Blocks, average, concatenate, join
from commonwatt.model.control import ENOUGH_S, SETTLED_S, RelayedDays
from commonwatt.model.records import EventRecord
from commonwatt.model.units import QUARTER_S, EpochSeconds, MeterId, MicrogridId, Quarter
from commonwatt.protocol.dead_letters import DeadLetter
from gateway.store.changes import UNSENT, Key, Part, Stored

WINDOW = 3  # batches in flight of all owners, and of one, at which no backlog is sent; live data may be one more
WINDOW_BYTES = 256 * 1024  # bytes in flight of all owners at which no backlog is sent
LATE_S = 10  # seconds after which an owner that did not ask again, or a batch without acknowledgement, counts no more


class _Sent(NamedTuple):
    time: EpochSeconds
    size: int


@dataclass
class _Owner:
    weight: float
    served: float = 0.0  # bytes sent while it had a backlog, by weight
    asked: EpochSeconds | None = None  # when it last asked for a turn; ``None``: it has no backlog, or can't send it
    due: EpochSeconds | None = None  # since when it has live data to send
    flying: dict[int, _Sent] = field(default_factory=dict)  # its batches in flight, by sequence


class Turns:
    """Decides which hosted microgrid sends a batch of its backlog next."""

    def __init__(self) -> None:
        self._owners: dict[MicrogridId, _Owner] = {}

    def join(self, owner: MicrogridId) -> None:
        """Add an owner, or begin anew with one whose store was opened again: nothing of it is in flight."""
        self._owners[owner] = _Owner(1.0)

    def weigh(self, owner: MicrogridId, weight: float) -> None:
        """Set an owner's share of the bytes, relative to the others'."""
        self._owners[owner].weight = weight

    def due(self, owner: MicrogridId, now: EpochSeconds) -> None:
        """Note that an owner has live data to send: nobody's backlog goes before it."""
        self._owners[owner].due = now

    def may_send(self, owner: MicrogridId, now: EpochSeconds) -> bool:
        """Return whether an owner may send a batch of its backlog now; it has one."""
        own = self._owners[owner]
        others = [other for name, other in self._owners.items() if name != owner]
        waiting = [other.served for other in others if _is_recent(other.asked, now)]
        if waiting and not _is_recent(own.asked, now):
            own.served = max(own.served, min(waiting))
        own.asked, own.due = now, None
        batches = (sent for owner in self._owners.values() for sent in owner.flying.values())
        flying = [sent.size for sent in batches if _is_recent(sent.time, now)]
        has_room = len(flying) < WINDOW and sum(flying) < WINDOW_BYTES
        return (
            has_room
            and own.served <= min(waiting, default=own.served)
            and not any(_is_recent(other.due, now) for other in others)
        )

    def sent(self, owner: MicrogridId, sequence: int, size: int, now: EpochSeconds) -> None:
        """Note a batch that was sent; live data counts, too, as long as the owner has a backlog."""
        own = self._owners[owner]
        own.flying[sequence] = _Sent(now, size)
        own.due = None
        if own.asked is not None:
            own.served += size / own.weight

    def ended(self, owner: MicrogridId, sequence: int, *, lost: bool = False) -> None:
        """Note that a batch is no longer in flight; what the line has lost is not counted as served."""
        own = self._owners[owner]
        sent = own.flying.pop(sequence, None)
        if lost and sent is not None and own.asked is not None:
            own.served -= sent.size / own.weight

    def rest(self, owner: MicrogridId) -> None:
        """Note that an owner has no backlog, or must not send it now."""
        self._owners[owner].asked = self._owners[owner].due = None


def _is_recent(time: EpochSeconds | None, now: EpochSeconds) -> bool:
    # After the clock was set either way a time counts no more.
    return time is not None and abs(now - time) <= LATE_S


BATCH_PARTS = 2000  # most parts in one batch
# Most bytes of parts in one batch: with the events and dead letters it stays below ``MAX_BATCH_BYTES``.
BATCH_PART_BYTES = 180_000
BATCH_EVENTS = 1000  # most events in one batch
BATCH_DEAD_LETTERS = 40  # most dead letters in one batch, each of a kilobyte at most
ANY_QUARTER: Quarter = 2**32  # a number above every quarter


@dataclass(frozen=True, kw_only=True)
class Mode:
    """The aggregation of relayed data (C6)."""

    # ``none``: parts as they come; ``lossless``: whole finished quarters; ``lossy``: averages of them.
    name: str = "none"
    until: EpochSeconds | None = None  # when it ends; ``None``: when a command ends it
    # Whether this process computed its end from a duration: the end is shifted when the time is set. The store keeps
    # ``until`` only.
    for_s: bool = False
    late_s: int = 0  # seconds by which a finished quarter is sent later than it could be
    # First quarter that may be averaged, as none of it was sent before; ``ANY_QUARTER``: not known yet.
    since: Quarter = ANY_QUARTER


@dataclass(frozen=True, kw_only=True)
class QuarterSpan:
    """The quarters of which a batch may have parts."""

    first: Quarter = 0  # the first one
    before: Quarter = ANY_QUARTER  # the quarter after the last one
    parts: int = BATCH_PARTS  # most parts


WHOLE = QuarterSpan()


@dataclass(frozen=True, kw_only=True)
class BatchSelection:
    """The content of one batch, and the parts that its acknowledgement covers."""

    blocks: Blocks  # the blocks to send
    done: tuple[int, ...]  # parts that the utility has exactly after its acknowledgement
    averaged: tuple[int, ...] = ()  # parts of which the utility then has averages
    events: tuple[tuple[int, EventRecord], ...] = ()  # (log generation, event)
    dead_letters: tuple[tuple[int, DeadLetter], ...] = ()  # (number, dead letter)
    more: bool = False  # whether unsent data is left for another batch

    @property
    def event_keys(self) -> tuple[tuple[int, int, int], ...]:
        """Meter, log generation and id of each event."""
        return tuple((event.meter_id, generation, event.record_id) for generation, event in self.events)


@dataclass(frozen=True, kw_only=True)
class Flying:
    """The content of the batches in flight."""

    parts: frozenset[int] = frozenset()
    events: frozenset[tuple[int, int, int]] = frozenset()
    dead_letters: frozenset[int] = frozenset()

    @classmethod
    def of(cls, sent: Collection[BatchSelection]) -> Self:
        """Return the content of batches together."""
        return cls(
            parts=frozenset(part for one in sent for part in (*one.done, *one.averaged)),
            events=frozenset(key for one in sent for key in one.event_keys),
            dead_letters=frozenset(number for one in sent for number, _ in one.dead_letters),
        )


def load(parts: Collection[Part]) -> Blocks:
    """Join parts into blocks; the store has checked the parts."""
    return join([unpack([part.key for part in parts], [part.payload for part in parts])])


def select(
    store: Stored,
    now: EpochSeconds,
    mode: Mode,
    flying: Flying,
    without: Collection[MeterId],
    *,
    one_meter: bool,
    span: QuarterSpan = WHOLE,
) -> BatchSelection | None:
    """Choose the newest unsent data that is in no batch in flight; ``None``: there is none.

    The newest parts and events come first: present readings do not wait behind the backlog of a long outage.

    Args:
        without: Meters to leave out.
        one_meter: Choose parts and events of one meter only.
        span: The parts that may be chosen.
    """
    before = ANY_QUARTER if mode.name == "none" else (now - SETTLED_S - mode.late_s) // QUARTER_S
    most = min(span.parts, BATCH_PARTS)
    unsent = store.unsent_parts(span.first, min(before, span.before), most + 1, flying.parts, without)
    parts = _fitting(unsent[:most])
    waiting = [
        (generation, event)
        for generation, event in store.unsent_events(BATCH_EVENTS + len(flying.events) + 1, without)
        if (event.meter_id, generation, event.record_id) not in flying.events
    ]
    events = waiting[:BATCH_EVENTS]
    dead_letters = [
        dead_letter
        for dead_letter in store.unsent_dead_letters(BATCH_DEAD_LETTERS + len(flying.dead_letters) + 1)
        if dead_letter[0] not in flying.dead_letters
    ]
    if not parts and not events and not dead_letters:
        return None
    if one_meter:
        meter = parts[0].key[0] if parts else events[0][1].meter_id if events else None
        parts = [part for part in parts if part.key[0] == meter]
        events = [(generation, event) for generation, event in events if event.meter_id == meter]
    exact, coarse = _fitting_blocks(*_split(store, parts, mode))
    taken = {part.id for part in (*exact, *coarse)}
    return BatchSelection(
        blocks=concatenate([load(exact), average(load(coarse))]),
        done=tuple(part.id for part in exact),
        averaged=tuple(part.id for part in coarse),
        events=tuple(events),
        dead_letters=tuple(dead_letters[:BATCH_DEAD_LETTERS]),
        # By number, not by count: a completed block brings parts that are not among those of ``unsent``.
        more=len(unsent) > most
        or any(part.id not in taken for part in unsent)
        or len(events) < len(waiting)
        or len(dead_letters) > BATCH_DEAD_LETTERS,
    )


def _fitting(parts: list[Part]) -> list[Part]:
    sizes = np.cumsum([len(part.payload) for part in parts])
    return parts[: int(np.searchsorted(sizes, BATCH_PART_BYTES))]


def _fitting_blocks(exact: list[Part], coarse: list[Part]) -> tuple[list[Part], list[Part]]:
    """Leave out blocks that no longer fit after others were completed; one block always fits."""
    sizes: dict[Key, int] = {}
    for part in exact + coarse:
        sizes[part.key] = sizes.get(part.key, 0) + len(part.payload)
    sums = np.cumsum(list(sizes.values()))
    kept = set(list(sizes)[: max(1, int(np.searchsorted(sums, BATCH_PART_BYTES)))])
    return [part for part in exact if part.key in kept], [part for part in coarse if part.key in kept]


def _split(store: Stored, parts: list[Part], mode: Mode) -> tuple[list[Part], list[Part]]:
    """Divide parts into those to send exactly and those to send as averages, completing blocks where needed."""
    keys = list(dict.fromkeys(part.key for part in parts))
    whole = store.coarse_keys(keys)
    averaged: dict[Key, list[Part]] = {}
    if mode.name == "lossy":
        new = {key for key in keys if key[2] >= mode.since and key not in whole}
        for part in store.block_parts(new):
            averaged.setdefault(part.key, []).append(part)
        averaged = {key: parts for key, parts in averaged.items() if all(part.relayed == UNSENT for part in parts)}
        whole |= new - averaged.keys()
    exact = [part for part in parts if part.key not in whole and part.key not in averaged]
    return exact + store.block_parts(whole), [part for siblings in averaged.values() for part in siblings]


@dataclass(frozen=True)
class InFlight:
    """A batch that was sent and is not acknowledged."""

    sent: EpochSeconds
    selection: BatchSelection
    wanted: tuple[Key, ...] = ()

    @property
    def meters(self) -> frozenset[MeterId]:
        """The meters whose data it holds."""
        events = (event.meter_id for _, event in self.selection.events)
        return frozenset(self.selection.blocks.meter.tolist()).union(events)


@dataclass
class RelayCounts:
    """Counts since the start."""

    batches: Counter[str] = field(default_factory=Counter)  # batches, by what became of them
    blocks: int = 0  # blocks in them
    slots: int = 0  # readings in them
    with_blocks: int = 0  # batches with blocks
    size: int = 0  # bytes of these batches
    since: EpochSeconds | None = None  # when the first batch was sent

    def sent(self, blocks: Blocks, size: int, now: EpochSeconds) -> None:
        """Count a batch of ``size`` bytes."""
        self.since = now if self.since is None else self.since
        self.batches["sent"] += 1
        self.blocks += len(blocks)
        if len(blocks):
            self.slots += int((blocks.quality > 0).sum())
            self.with_blocks += 1
            self.size += size

    def shift(self, by_s: int) -> None:
        """Shift the time of the first batch after the time was set by ``by_s``."""
        self.since = None if self.since is None else self.since + by_s

    def relayed(self, now: EpochSeconds) -> RelayedDays | None:
        """Return what was sent; ``None``: it was not counted for long enough."""
        seconds = 0 if self.since is None else now - self.since
        if seconds < ENOUGH_S or not self.slots:
            return None
        return RelayedDays(
            seconds=seconds, batches=self.with_blocks, blocks=self.blocks, slots=self.slots, size=self.size
        )
