"""What goes into the next batch: chosen from what the utility has not acknowledged (C1, C6).

Averages and exact slots of one group must never meet at the utility: a slot keeps its best value, and the mean of ten
beside nine of the ten is wrong. So averages are sent of a block only the first time, of quarters of which nothing was
sent before; that is written down before they are sent; and whatever is sent of such a block later is all of it, exact.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from commonwatt.codec.packing import unpack
from commonwatt.model.blocks import Blocks, average, concatenate, join
from commonwatt.model.records import EventRecord
from commonwatt.model.units import QUARTER_S, EpochSeconds, MeterId, Quarter
from commonwatt.protocol.dead_letters import DeadLetter
from gateway.changes import UNSENT, Part
from gateway.stored import Unsent

BATCH_PARTS = 2000
"""Parts taken into one batch, at most."""

BATCH_PART_BYTES = 180_000
"""Bytes of parts taken into one batch, at most: with the events and dead letters it stays below ``MAX_BATCH_BYTES``."""

BATCH_EVENTS = 1000
"""Events taken into one batch, at most."""

BATCH_DEAD_LETTERS = 40
"""Letters (of a kilobyte at most) taken into one batch, at most."""

SETTLED_S = 60
"""Seconds after its end at which a quarter is treated as finished."""

ANY_QUARTER: Quarter = 2**32
"""Above every quarter."""

Key = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Mode:
    """How what is relayed is aggregated (C6).

    Attributes:
        name: ``none``: parts as they come; ``lossless``: whole finished quarters; ``lossy``: averages of those.
        until: When it ends; ``None``: by command.
        for_s: Whether its end was computed from a duration by this process's time: it is shifted when that is set. The
            store keeps ``until`` alone.
        since: First quarter that may be averaged, none of it was sent exactly before; ``ANY_QUARTER``: not known yet.
    """

    name: str = "none"
    until: EpochSeconds | None = None
    for_s: bool = False
    since: Quarter = ANY_QUARTER


@dataclass(frozen=True, kw_only=True)
class Flying:
    """What is in batches that are not acknowledged."""

    parts: frozenset[int] = frozenset()
    events: frozenset[tuple[int, int, int]] = frozenset()
    dead_letters: frozenset[int] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What one batch holds, and what its acknowledgement will mean.

    Attributes:
        blocks: What is sent.
        done: Parts the utility has exactly once it acknowledges.
        averaged: Parts of which it then has averages.
        events: (log generation, event).
        dead letters: (number, dead letter).
        more: Whether something unsent was left behind.
    """

    blocks: Blocks
    done: tuple[int, ...]
    averaged: tuple[int, ...] = ()
    events: tuple[tuple[int, EventRecord], ...] = ()
    dead_letters: tuple[tuple[int, DeadLetter], ...] = ()
    more: bool = False


def load(parts: Collection[Part]) -> Blocks:
    """Join parts, which the store has found sound."""
    return join([unpack([part.key for part in parts], [part.payload for part in parts])])


def select(
    store: Unsent, now: EpochSeconds, mode: Mode, flying: Flying, without: Collection[MeterId], *, one_meter: bool
) -> Selection | None:
    """Choose the newest of what is unsent and in no batch; ``None`` if there is nothing.

    The newest first: what is measured now does not wait behind what is left of a long absence of the utility.

    Args:
        store: Where it is.
        now: The time.
        mode: How to aggregate.
        flying: What is on its way already.
        without: Meters to leave out.
        one_meter: Take what is of one meter alone.
    """
    before = ANY_QUARTER if mode.name == "none" else (now - SETTLED_S) // QUARTER_S
    unsent = store.unsent_parts(before, BATCH_PARTS + 1, flying.parts, without)
    parts = _fitting(unsent[:BATCH_PARTS])
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
    return Selection(
        blocks=concatenate([load(exact), average(load(coarse))]),
        done=tuple(part.id for part in exact),
        averaged=tuple(part.id for part in coarse),
        events=tuple(events),
        dead_letters=tuple(dead_letters[:BATCH_DEAD_LETTERS]),
        more=len(exact) + len(coarse) < len(unsent)
        or len(events) < len(waiting)
        or len(dead_letters) > BATCH_DEAD_LETTERS,
    )


def _fitting(parts: list[Part]) -> list[Part]:
    sizes = np.cumsum([len(part.payload) for part in parts])
    return parts[: int(np.searchsorted(sizes, BATCH_PART_BYTES))]


def _fitting_blocks(exact: list[Part], coarse: list[Part]) -> tuple[list[Part], list[Part]]:
    """Leave out blocks that no longer fit since others were completed; one block always fits."""
    sizes: dict[Key, int] = {}
    for part in exact + coarse:
        sizes[part.key] = sizes.get(part.key, 0) + len(part.payload)
    sums = np.cumsum(list(sizes.values()))
    kept = set(list(sizes)[: max(1, int(np.searchsorted(sums, BATCH_PART_BYTES)))])
    return [part for part in exact if part.key in kept], [part for part in coarse if part.key in kept]


def _split(store: Unsent, parts: list[Part], mode: Mode) -> tuple[list[Part], list[Part]]:
    """Divide what is to be sent into what goes exactly and what goes as averages, completing blocks where needed."""
    keys = list(dict.fromkeys(part.key for part in parts))
    whole = store.coarse_keys(keys)
    averaged: dict[Key, list[Part]] = {}
    if mode.name == "lossy":
        for key in keys:
            siblings = store.block_parts([key]) if key[2] >= mode.since and key not in whole else []
            if siblings and all(part.relayed == UNSENT for part in siblings):
                averaged[key] = siblings
    exact = [part for part in parts if part.key not in whole and part.key not in averaged]
    return exact + store.block_parts(whole), [part for siblings in averaged.values() for part in siblings]
