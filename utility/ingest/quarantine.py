"""Sets apart what is not to be joined of a batch: what a gateway would have refused, and what others sent (pure).

Gateways judge by the same rules (``commonwatt.model.validation``); this is for those that don't. What can be taken
after all, when a person says so, is held: implausible readings, and those of a controller that may not hold their
meter. The rest goes into dead letters by its reason. What is good in a block is stored as ever.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from commonwatt.codec.packing import pack
from commonwatt.codec.payloads import Payloads
from commonwatt.model.blocks import EXTRA, Blocks, concatenate
from commonwatt.model.records import EventRecord, Log, RecordType, Rejection
from commonwatt.model.units import ControllerId, EpochSeconds, MicrogridId
from commonwatt.model.validation import Expected, judge_event, reading_faults, slot_ends, suspects
from commonwatt.protocol.dead_letters import DeadLetter, LocalReason, block_dead_letters, quarantined_blocks
from utility.registry.snapshot import MeterEntry

Quarantined = tuple[DeadLetter, Blocks]
"""A dead letter that a person is to decide on, and the readings it holds."""

_QUARANTINED_REASONS = (Rejection.IMPLAUSIBLE, LocalReason.NOT_ASSIGNED)

_Event = tuple[int, EventRecord]
_Longs = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Sorted:
    """A batch's blocks without what is quarantined.

    Attributes:
        blocks: The good slots.
        payloads: The same packed; as received where nothing was quarantined.
        dead letters: What no meter can have measured.
        held: What a person is to decide on.
    """

    blocks: Blocks
    payloads: Payloads
    dead_letters: tuple[DeadLetter, ...] = ()
    quarantined: tuple[Quarantined, ...] = ()


@dataclass(frozen=True, eq=False)
class _Values:
    """Every value of some blocks, those of conflicts too: its block, its slot, itself."""

    row: _Longs
    slot: _Longs
    value: _Longs

    def take(self, which: npt.NDArray[np.bool_]) -> "_Values":
        return _Values(self.row[which], self.slot[which], self.value[which])


def sort_out(
    blocks: Blocks,
    payloads: Payloads,
    limits: _Longs,
    assigned: npt.NDArray[np.bool_],
    now: EpochSeconds,
    judged_at: EpochSeconds | None,
) -> Sorted:
    """Set slots apart that have a fault, or whose sender may not hold their meter; nearly always there are none.

    Args:
        blocks: The batch's blocks.
        payloads: The same packed.
        limits: The largest plausible reading of each block.
        assigned: Which blocks' meters the sender may hold.
        now: The time.
        judged_at: The latest time that it may be; ``None``: nothing is known of that, and nothing is of the future.
    """
    some = suspects(blocks, limits, judged_at) | ~assigned
    if not some.any():
        return Sorted(blocks, payloads)
    rows = np.flatnonzero(some)
    doubtful, own = blocks.take(rows), assigned[rows]
    values = _values_of(doubtful)
    reasons = _judge(doubtful, values, limits[rows], own, judged_at)
    dead_letters: list[DeadLetter] = []
    quarantined: list[Quarantined] = []
    for reason in np.unique(reasons[reasons > 0]).tolist():
        apart = _of(doubtful, values.take(reasons == reason))
        made = block_dead_letters(now, apart, reason)
        if reason in _QUARANTINED_REASONS:
            quarantined += [(dead_letter, apart.take([row])) for row, dead_letter in enumerate(made)]
        else:
            dead_letters += made
    good = _of(doubtful, values.take(reasons == 0))
    others = np.flatnonzero(~some)
    return Sorted(
        concatenate([blocks.take(others), good]),
        Payloads.of([*payloads.take(others), *pack(good)]),
        tuple(dead_letters),
        tuple(quarantined),
    )


def _judge(
    blocks: Blocks, values: _Values, limits: _Longs, own: npt.NDArray[np.bool_], now: EpochSeconds | None
) -> _Longs:
    """Return the reason why each value is quarantined, 0 for good ones."""
    ends = slot_ends(blocks, values.row, values.slot)
    reasons = np.zeros(len(values.row), np.int64)
    # The first fault counts, so it is written last.
    for reason, faulty in reversed(reading_faults(values.value, ends, limits[values.row], now)):
        reasons[faulty] = reason
        if reason is Rejection.IMPLAUSIBLE:
            # A value that its meter can't have is no more for a person to release when another controller sent it.
            reasons[~own[values.row]] = LocalReason.NOT_ASSIGNED
    # Of the meter's controller, a batch with such a type was refused.
    reasons[~np.isin(blocks.record_type, list(RecordType))[values.row]] = Rejection.UNKNOWN_TYPE
    return reasons


def _values_of(blocks: Blocks) -> _Values:
    row, slot = np.nonzero(blocks.quality)
    extras = blocks.extras
    return _Values(
        np.concatenate((row, extras["row"])).astype(np.int64),
        np.concatenate((slot, extras["slot"])).astype(np.int64),
        np.concatenate((blocks.values[row, slot], extras["value"])).astype(np.int64),
    )


def _of(blocks: Blocks, some: _Values) -> Blocks:
    """Return the blocks with some of their values alone, those without any left out."""
    order = np.lexsort((some.value, some.slot, some.row))
    row, slot, value = some.row[order], some.slot[order], some.value[order]
    first = np.ones(len(row), np.bool_)
    first[1:] = (np.diff(row) != 0) | (np.diff(slot) != 0)
    values, quality = np.zeros_like(blocks.values), np.zeros_like(blocks.quality)
    values[row[first], slot[first]] = value[first]
    quality[row, slot] = blocks.quality[row, slot]
    extras = np.empty(int((~first).sum()), EXTRA)
    extras["row"], extras["slot"], extras["value"] = row[~first], slot[~first], value[~first]
    whole = Blocks(
        meter=blocks.meter,
        record_type=blocks.record_type,
        quarter=blocks.quarter,
        values=values,
        quality=quality,
        extras=extras,
    )
    return whole.take(np.flatnonzero(quality.any(axis=1)))


def sort_out_events(
    events: Sequence[_Event],
    sender: ControllerId,
    owner: MicrogridId,
    meters: Mapping[int, MeterEntry],
    now: EpochSeconds | None,
) -> tuple[list[_Event], list[tuple[_Event, int]]]:
    """Divide a batch's events into the good ones and those quarantined, with the reason.

    Args:
        events: The events; their meters are registered.
        sender: The controller that sent them.
        owner: The microgrid it says they are of.
        meters: The registry.
        now: As ``judged_at`` in ``sort_out``.
    """
    good: list[_Event] = []
    apart: list[tuple[_Event, int]] = []
    for generation, record in events:
        why: int | None
        if is_assigned(meters[record.meter_id], sender, owner):
            why = judge_event(record, Expected(meter_id=record.meter_id, account=0, record_types=(), now=now))
        else:
            why = LocalReason.NOT_ASSIGNED
        if why is None:
            good.append((generation, record))
        else:
            apart.append(((generation, record), why))
    return good, apart


def is_assigned(meter: MeterEntry, sender: ControllerId, owner: MicrogridId) -> bool:
    """Tell whether a controller may send what is of a meter, as of the microgrid ``owner``."""
    return meter.microgrid == owner and sender in meter.controllers


def event_dead_letters(apart: Iterable[tuple[_Event, int]], now: EpochSeconds) -> Iterator[DeadLetter]:
    """Yield a dead letter of each event that was quarantined."""
    for (generation, record), reason in apart:
        yield DeadLetter(
            meter=record.meter_id,
            log=Log.EVENT,
            reason=reason,
            generation=generation,
            record_id=record.record_id,
            time=now,
            content=record.pack(),
        )


def quarantined_dead_letters(
    dead_letters: Sequence[DeadLetter], sender: ControllerId, owner: MicrogridId, meters: Mapping[int, MeterEntry]
) -> tuple[list[DeadLetter], tuple[Quarantined, ...]]:
    """Divide relayed dead letters into those that stay dead letters, and those that a person is to decide on.

    One with readings, of a controller that may not hold the meter, is kept under that reason: under its own it would
    stand in the place of the same dead letter from the meter's controller.
    """
    plain, quarantined = [], []
    for dead_letter in dead_letters:
        meter = meters.get(dead_letter.meter)
        blocks = None
        if meter is not None and dead_letter.reason == Rejection.IMPLAUSIBLE:
            if not is_assigned(meter, sender, owner):
                dead_letter = replace(dead_letter, reason=LocalReason.NOT_ASSIGNED)
            blocks = quarantined_blocks(dead_letter, meter.account, meter.record_types)
        if blocks is None:
            plain.append(dead_letter)
        else:
            quarantined.append((dead_letter, blocks))
    return plain, tuple(quarantined)
