"""Finds missing slots, and decides which to ask for again (pure; ``utility.store.gaps`` does the SQL).

A meter's record type is expected in every slot from the first quarter ever heard of it. A slot that is not wholly
inside a time when the meter was up is off: counted apart, never asked for. What the gateway answered not to have is
absent, and not asked for again: late data fills it by itself.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from commonwatt.model.records import EventRecord, State
from commonwatt.model.units import QUARTER_S, SLOT_S, SLOTS, EpochSeconds, MeterId, MicrogridId, Quarter
from commonwatt.protocol.commands import BlockMask, ControllerCommand
from commonwatt.protocol.json_messages import MAX_COMMAND_BYTES

FIRST_BACKOFF_S = 300
"""Seconds after which a block is asked for the second time; doubled from time to time."""

LAST_BACKOFF_S = 21_600
"""The longest time between two requests for a block."""

MAX_ASKED = 2_000
"""Blocks asked for in one run."""

MAX_AGE_QUARTERS = 180 * 96
"""Quarters further back are not looked for: gateways keep six months (A7)."""

ALL_SLOTS = (1 << SLOTS) - 1
"""Mask of all slots of a block."""

Interval = tuple[EpochSeconds, EpochSeconds]
"""Half-open; an empty one is a moment."""

_FOR_EVER = 2**40
# A log counts from 0 or 1.
_FIRST_RECORD = 1
# What a command takes beside its blocks; generous.
_ENVELOPE_BYTES = 300


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Slots of one block to be asked for.

    Attributes:
        microgrid: Whose gateway is asked.
        meter: The meter.
        record_type: The record type.
        quarter: The quarter.
        mask: The slots.
    """

    microgrid: MicrogridId
    meter: MeterId
    record_type: int
    quarter: Quarter
    mask: int


def backoff_s(asked: int) -> int:
    """Return how long to wait after a block was asked for ``asked`` times, at least once."""
    return min(FIRST_BACKOFF_S << min(asked - 1, 16), LAST_BACKOFF_S)


def is_due(next_time: EpochSeconds, now: EpochSeconds) -> bool:
    """Say whether a block is to be asked for; a time no backoff can have set is of a clock that was ahead."""
    return not now < next_time <= now + LAST_BACKOFF_S


def settled_before(now: EpochSeconds, gap_age_s: int) -> Quarter:
    """Return the first quarter that is still too young to be looked through."""
    return max(0, (now - gap_age_s) // QUARTER_S)


def off_times(events: Iterable[tuple[int, EventRecord]]) -> list[Interval]:
    """Return when a meter was off, by its (log generation, event)s, in order; before the first it counts as up.

    A meter that lost its power says so only when it is back: such an event makes the moment before it an off time;
    the first entry of a log does so for all the time before, unless an earlier event is known. So a state depends on
    no more than the last event before it and the next one, and the events of a range with those two are enough for it.
    """
    result: list[Interval] = []
    down_since: EpochSeconds | None = None
    in_order = sorted(events, key=lambda item: (item[1].time, item[0], item[1].record_id))
    for place, (_, event) in enumerate(in_order):
        if down_since is None and not event.previous_state & State.INITIALIZED:
            born = place == 0 and event.record_id <= _FIRST_RECORD
            result.append((0 if born else event.time, event.time))
        if not event.new_state & State.INITIALIZED:
            down_since = event.time if down_since is None else down_since
        elif down_since is not None:
            result.append((down_since, event.time))
            down_since = None
    if down_since is not None:
        result.append((down_since, _FOR_EVER))
    return result


def off_mask(off: Sequence[Interval], quarter: Quarter) -> int:
    """Return the slots of a quarter in which the meter was off for any time; ``off`` as ``off_times`` makes it."""
    begin = quarter * QUARTER_S
    mask = 0
    for start, end in off[bisect_left(off, begin, key=lambda interval: interval[1]) :]:
        if start >= begin + QUARTER_S:
            break
        for slot in range(SLOTS):
            at = begin + slot * SLOT_S
            if at < end and at + SLOT_S > start:
                mask |= 1 << slot
    return mask


def requests(
    wanted: Sequence[Wanted], now: EpochSeconds, ids: Iterator[str]
) -> Iterator[tuple[str, ControllerCommand]]:
    """Yield (microgrid, command) for all that is wanted, each command within ``MAX_COMMAND_BYTES``.

    Args:
        wanted: The slots.
        now: The time; a command is sent until the block would be asked for anew.
        ids: New ids for the commands.
    """
    for microgrid in sorted({w.microgrid for w in wanted}):
        blocks: list[BlockMask] = []
        size = _ENVELOPE_BYTES
        for w in wanted:
            if w.microgrid != microgrid:
                continue
            block = (w.meter, w.record_type, w.quarter, f"{w.mask:x}")
            # Brackets, commas and quotation marks included.
            length = sum(len(str(field)) for field in block) + 10
            if size + length > MAX_COMMAND_BYTES:
                yield microgrid, _get(next(ids), blocks, now)
                blocks, size = [], _ENVELOPE_BYTES
            blocks.append(block)
            size += length
        yield microgrid, _get(next(ids), blocks, now)


def _get(command_id: str, blocks: list[BlockMask], now: EpochSeconds) -> ControllerCommand:
    # The model reads ids as text, as they are on the wire.
    texts = [(str(meter), record_type, quarter, mask) for meter, record_type, quarter, mask in blocks]
    return ControllerCommand.model_validate(
        {"id": command_id, "cmd": "get", "until": now + FIRST_BACKOFF_S, "blocks": texts}
    )
