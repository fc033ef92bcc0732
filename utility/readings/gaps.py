"""Finds missing slots, and decides which to request again (pure; ``utility.readings.store.gaps`` does the SQL).

Where several controllers may have a microgrid's data, each is asked: a slot is absent when none of them has it (R14).

A meter's record type is expected in every slot from the first quarter with its data until the meter is removed. A slot
in which the meter was down for any time is off: it is counted separately and never requested. A slot that the gateway
reported not to have is absent and not requested again; late data fills it.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from commonwatt.model.records import EventRecord, State
from commonwatt.model.units import QUARTER_S, SLOT_S, SLOTS, ControllerId, EpochSeconds, MeterId, MicrogridId, Quarter
from commonwatt.protocol.commands import Epoch
from commonwatt.protocol.controller_commands import BlockMask, ControllerCommand, sent_to
from commonwatt.protocol.json_messages import MAX_COMMAND_BYTES

FIRST_BACKOFF_S = 300  # seconds between the first and the second request for a block; each further wait doubles
LAST_BACKOFF_S = 21_600  # the longest time between two requests for a block
MAX_ASKED = 2_000  # most blocks requested in one turn of the job
MAX_AGE_QUARTERS = 180 * 96  # age in quarters beyond which no slot is requested: gateways keep six months (A7)
ALL_SLOTS = (1 << SLOTS) - 1  # mask of all slots of a block
# Seconds without a message after which a gateway, or the plant, is silent: an alarm, as ``CommonwattGatewaySilent``.
GATEWAY_SILENT_S = 300
CONTROLLER_GONE_S = 30 * 86_400  # seconds without a heartbeat after which a controller is not waited for (R14)
RETIRED_S = 86_400  # the same for a controller whose own microgrid has no meter any more
Why = Literal["said", "store", "silent", "retired"]  # why it is known that a store does not have a slot
WHY_WORDS: dict[str, str] = {
    "said": "it said so",
    "store": "it has no store of the microgrid",
    "silent": "it has been silent for 30 days",
    "retired": "its own microgrid has no meter any more",
}
"""The same for people."""
Interval = tuple[EpochSeconds, EpochSeconds]  # half-open; an empty interval is a moment

_FOR_EVER = 2**40
# A log's first record id is 0 or 1.
_FIRST_RECORD = 1
# Bytes of a command besides its blocks, with a margin.
_ENVELOPE_BYTES = 500


@dataclass(frozen=True, kw_only=True)
class WantedSlots:
    """Slots of one block to request."""

    microgrid: MicrogridId  # the meter's microgrid
    controller: ControllerId  # the controller whose store is asked
    meter: MeterId  # the meter
    record_type: int  # the record type
    quarter: Quarter  # the quarter
    mask: int  # the slots


def backoff_s(asked: int) -> int:
    """Return the seconds to wait after request number ``asked`` (at least 1) for a block."""
    return min(FIRST_BACKOFF_S << min(asked - 1, 16), LAST_BACKOFF_S)


def is_due(next_time: EpochSeconds, now: EpochSeconds) -> bool:
    """Return whether to request a block; a time beyond any backoff was set by a clock that was ahead, and is due."""
    return not now < next_time <= now + LAST_BACKOFF_S


def absent_at_all(said: Mapping[ControllerId, int], stores: Iterable[ControllerId]) -> int:
    """Return the slots that no store has.

    Args:
        said: The slots that a store is known not to have, by its controller.
        stores: The controllers that may have the block.
    """
    absent = ALL_SLOTS
    for controller in stores:
        absent &= said.get(controller, 0)
    return absent


def excuse(seen: EpochSeconds | None, newest: EpochSeconds, *, is_closed: bool) -> Why | None:
    """Return why a controller need not be asked for what it may have; ``None``: it must.

    Args:
        seen: When its last heartbeat came; ``None``: none ever came.
        newest: When the last heartbeat of any controller came: a clock that was once ahead silences nobody.
        is_closed: Whether all meters of its own microgrid were removed; it may still deliver for some days.
    """
    if is_closed and (seen is None or newest - seen > RETIRED_S):
        return "retired"
    return "silent" if seen is not None and newest - seen > CONTROLLER_GONE_S else None


def settled_before(now: EpochSeconds, gap_age_s: int) -> Quarter:
    """Return the first quarter that is still too young for the search."""
    return max(0, (now - gap_age_s) // QUARTER_S)


def off_times(events: Iterable[tuple[int, EventRecord]]) -> list[Interval]:
    """Return the times when a meter was off, in order, from its (log generation, event) pairs.

    Before its first event a meter counts as up. A meter reports a power loss only when it is back: such an event makes
    the moment before it an off time; if it is the first entry of a log and no earlier event is known, all the time
    before it. The state at a time depends on the events directly before and after it: a range needs its own events and
    these two.
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
    """Return the mask of a quarter's slots in which the meter was off for any time; ``off`` is from ``off_times``."""
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
    wanted: Sequence[WantedSlots], now: EpochSeconds, ids: Iterator[str], epochs: Mapping[MicrogridId, Epoch]
) -> Iterator[tuple[ControllerId, ControllerCommand]]:
    """Yield (controller, command) for all wanted slots, each command within ``MAX_COMMAND_BYTES``.

    Args:
        wanted: The slots.
        now: The time; a command expires when the block's second request is due.
        ids: New ids for the commands.
        epochs: The epoch of each microgrid that is managed under one.
    """
    for controller, microgrid in sorted({(w.controller, w.microgrid) for w in wanted}):
        epoch = epochs.get(microgrid, (0, 0))
        blocks: list[BlockMask] = []
        size = _ENVELOPE_BYTES
        for w in wanted:
            if (w.controller, w.microgrid) != (controller, microgrid):
                continue
            block = (w.meter, w.record_type, w.quarter, f"{w.mask:x}")
            # Brackets, commas and quotation marks included.
            length = sum(len(str(field)) for field in block) + 10
            if size + length > MAX_COMMAND_BYTES:
                yield controller, sent_to(controller, microgrid, epoch, _get(next(ids), blocks, now))
                blocks, size = [], _ENVELOPE_BYTES
            blocks.append(block)
            size += length
        yield controller, sent_to(controller, microgrid, epoch, _get(next(ids), blocks, now))


def _get(command_id: str, blocks: list[BlockMask], now: EpochSeconds) -> ControllerCommand:
    # The model parses ids from text, their form on the wire.
    texts = [(str(meter), record_type, quarter, mask) for meter, record_type, quarter, mask in blocks]
    return ControllerCommand.model_validate(
        {"id": command_id, "cmd": "get", "until": now + FIRST_BACKOFF_S, "blocks": texts}
    )
