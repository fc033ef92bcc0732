"""Chooses the content of the next batch from the data that the utility has not acknowledged (C1, C6).

The utility must never have averages and exact slots of one group: a slot keeps its best value, and the mean of ten
slots beside nine of them is wrong. So averages of a block are sent only once, and only of quarters of which nothing
was sent before; the store records that before they are sent; later the block is only sent whole and exact, even once
the utility has acknowledged it so: its database may go back to the averages.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Self

import numpy as np

from commonwatt.codec.packing import unpack
from commonwatt.model.blocks import Blocks, average, concatenate, join
from commonwatt.model.control.relaying import SETTLED_S
from commonwatt.model.ids import MeterId
from commonwatt.model.records import EventRecord
from commonwatt.model.units import QUARTER_S, EpochSeconds, Quarter
from commonwatt.protocol.dead_letters import DeadLetter
from gateway.changes import UNSENT, Part
from gateway.stored import Key, Stored

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
class Span:
    """The quarters of which a batch may have parts."""

    first: Quarter = 0  # the first one
    before: Quarter = ANY_QUARTER  # the quarter after the last one
    parts: int = BATCH_PARTS  # most parts


WHOLE = Span()


@dataclass(frozen=True, kw_only=True)
class Selection:
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
    def of(cls, sent: Collection[Selection]) -> Self:
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
    span: Span = WHOLE,
) -> Selection | None:
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
    return Selection(
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
