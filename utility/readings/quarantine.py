"""Sorts a batch into good data, quarantined readings and dead letters (pure).

Gateways validate by the same rules (``commonwatt.model.validation``); this is for gateways that don't. Two kinds of
readings are quarantined until a person decides: implausible ones, and readings from a controller that is not assigned
to the meter. Readings far ahead of a clock that is not confirmed are quarantined until it is. All other faults become
dead letters with their reason. The good readings of a block are stored as usual.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from commonwatt.codec.packing import pack
from commonwatt.codec.packing_arrays import Payloads
from commonwatt.model.blocks import EXTRA, Blocks, concatenate
from commonwatt.model.records import (
    HISTORY_BYTES,
    EventRecord,
    HistoryRecord,
    Log,
    RecordType,
    Rejection,
    unpack_history,
)
from commonwatt.model.units import MAX_EPOCH, QUARTER_S, ControllerId, EpochSeconds, MicrogridId
from commonwatt.model.validation import Expected, judge_event, judge_history, reading_faults, slot_ends, suspects
from commonwatt.protocol.dead_letters import DeadLetter, LocalReason, block_dead_letters, quarantined_blocks
from utility.outbox.changes import ToldAccount
from utility.registry.snapshot import MeterEntry

Holds = Callable[[MeterEntry], bool]  # whether a meter is of the batch's owner, and its sender is assigned to it
Quarantined = tuple[DeadLetter, Blocks]  # a dead letter that waits for a person's decision, and its readings

_QUARANTINED_REASONS = (Rejection.IMPLAUSIBLE, LocalReason.NOT_ASSIGNED, LocalReason.AHEAD)

_Event = tuple[int, EventRecord]
_Longs = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Sorted:
    """A batch's blocks without what is quarantined."""

    blocks: Blocks  # the good slots
    payloads: Payloads  # the same packed; as received where nothing was quarantined
    dead_letters: tuple[DeadLetter, ...] = ()  # readings that no meter can have measured
    quarantined: tuple[Quarantined, ...] = ()  # readings that wait for a person's decision


@dataclass(frozen=True, eq=False)
class _Values:
    """Every value of some blocks, including conflicting ones, with its block's row and its slot."""

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
    judged_at: EpochSeconds,
    future: int = Rejection.FUTURE,
) -> Sorted:
    """Separate slots with a fault, or from a sender that is not assigned to the meter; nearly always there are none.

    Blocks without any slot are dropped.

    Args:
        payloads: The same blocks, packed.
        limits: The largest plausible reading of each block.
        assigned: Which blocks are of meters that the sender is assigned to.
        judged_at: Latest possible present time; readings after it are of the future.
        future: The reason of these: ``AHEAD``, by which they wait, if the utility's clock is not confirmed.
    """
    some = suspects(blocks, limits, judged_at) | ~assigned | ~blocks.quality.any(axis=1)
    if not some.any():
        return Sorted(blocks, payloads)
    rows = np.flatnonzero(some)
    doubtful, own = blocks.take(rows), assigned[rows]
    values = _values_of(doubtful)
    reasons = _judge(doubtful, values, limits[rows], own, judged_at, future)
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
    blocks: Blocks, values: _Values, limits: _Longs, own: npt.NDArray[np.bool_], now: EpochSeconds, future: int
) -> _Longs:
    """Return the reason why each value is quarantined, 0 for good ones."""
    ends = slot_ends(blocks, values.row, values.slot)
    reasons = np.zeros(len(values.row), np.int64)
    faults = reading_faults(values.value, ends, limits[values.row], now)
    if future != Rejection.FUTURE:
        # What waits for the clock alone is released by itself: every other fault outranks it.
        reasons[next(faulty for reason, faulty in faults if reason is Rejection.FUTURE)] = future
        faults = tuple((reason, faulty) for reason, faulty in faults if reason is not Rejection.FUTURE)
    # The first fault counts, so it is written last.
    for reason, faulty in reversed(faults):
        reasons[faulty] = reason
        if reason is Rejection.IMPLAUSIBLE:
            # The other faults are written later and outrank this reason: a person must not release such values.
            reasons[~own[values.row]] = LocalReason.NOT_ASSIGNED
    # If the meter's own controller sent such a type, the core has refused the whole batch.
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
    """Return the blocks reduced to some of their values, without the blocks that have none of them."""
    order = np.lexsort((some.value, some.slot, some.row))
    row, slot, value = some.row[order], some.slot[order], some.value[order]
    first = np.ones(len(row), np.bool_)
    first[1:] = (np.diff(row) != 0) | (np.diff(slot) != 0)
    values, quality = np.zeros_like(blocks.values), np.zeros_like(blocks.quality)
    values[row[first], slot[first]] = value[first]
    quality[row, slot] = blocks.quality[row, slot]
    extras = np.empty(int((~first).sum()), EXTRA)
    extras["row"], extras["slot"], extras["value"] = row[~first], slot[~first], value[~first]
    whole = replace(blocks, values=values, quality=quality, extras=extras)
    return whole.take(np.flatnonzero(quality.any(axis=1)))


def sort_out_events(
    events: Sequence[_Event],
    meters: Mapping[int, MeterEntry],
    is_its: Holds,
    now: EpochSeconds,
    future: int = Rejection.FUTURE,
) -> tuple[list[_Event], list[tuple[_Event, int]]]:
    """Divide a batch's events into good events and rejected ones, the latter with the reason.

    Args:
        events: The events; their meters are registered.
        now: As ``judged_at`` in ``sort_out``.
        future: As in ``sort_out``.
    """
    good: list[_Event] = []
    apart: list[tuple[_Event, int]] = []
    for generation, record in events:
        why: int | None
        if is_its(meters[record.meter_id]):
            why = judge_event(record, Expected(meter_id=record.meter_id, record_types=(), now=now))
        else:
            why = LocalReason.NOT_ASSIGNED
        if why is None:
            good.append((generation, record))
        else:
            apart.append(((generation, record), future if why is Rejection.FUTURE else why))
    return good, apart


def is_assigned(meter: MeterEntry, sender: ControllerId, owner: MicrogridId) -> bool:
    """Return whether a controller may send a meter's data as data of the microgrid ``owner``."""
    return meter.microgrid == owner and sender in meter.controllers


def count_of_others(dead_letters: Iterable[DeadLetter], meters: Mapping[int, MeterEntry], is_its: Holds) -> int:
    """Return how many relayed dead letters are of registered meters that the sender is not assigned to."""
    found = (meters.get(dead_letter.meter) for dead_letter in dead_letters)
    return sum(meter is not None and not is_its(meter) for meter in found)


def records_of_other_accounts(
    dead_letters: Sequence[DeadLetter],
    meters: Mapping[int, MeterEntry],
    is_its: Holds,
    now: EpochSeconds,
    future: int,
) -> tuple[list[DeadLetter], list[HistoryRecord]]:
    """Take the records out of dead letters that are only about their account; return the rest, and the records.

    Gateways before 0.3 rejected such records; later ones accept them and send one a day, so some come twice: that
    changes nothing. A record with another fault stays a dead letter, with that fault as its reason.

    Args:
        now: As ``judged_at`` in ``sort_out``.
        future: As in ``sort_out``.
    """
    rest: list[DeadLetter] = []
    records: list[HistoryRecord] = []
    for dead_letter in dead_letters:
        if dead_letter.reason == LocalReason.AHEAD:
            # The utility alone says so: what a sender calls ahead is not released by itself.
            dead_letter = replace(dead_letter, reason=Rejection.FUTURE)
        meter = meters.get(dead_letter.meter)
        is_record = dead_letter.log == Log.HISTORY and len(dead_letter.content) == HISTORY_BYTES
        if dead_letter.reason != Rejection.WRONG_ACCOUNT or not is_record or meter is None:
            rest.append(dead_letter)
            continue
        if not is_its(meter):
            rest.append(replace(dead_letter, reason=Rejection.IMPLAUSIBLE))  # It is quarantined as not assigned.
            continue
        record = unpack_history(dead_letter.content)
        expected = Expected(
            meter_id=dead_letter.meter,
            record_types=tuple(map(RecordType, meter.record_types)),
            now=now,
            limits=meter.limits,
        )
        if (why := judge_history(record, expected)) is None:
            records.append(record)
        else:
            # As in ``sort_out``: another fault outranks the time.
            reason = (judge_history(record, replace(expected, now=None)) or future) if why is Rejection.FUTURE else why
            rest.append(replace(dead_letter, reason=reason))
    return rest, records


def told_accounts(records: Iterable[HistoryRecord], meters: Mapping[int, MeterEntry]) -> Iterator[ToldAccount]:
    """Yield the records whose account is not the one that had their meter."""
    for record in records:
        registered = meters[record.meter_id].account_at(record.start)
        if record.account != registered:
            yield ToldAccount(meter=record.meter_id, told=record.account, registered=registered, time=record.start)


def quarantined_dead_letters(
    dead_letters: Sequence[DeadLetter],
    meters: Mapping[int, MeterEntry],
    is_its: Holds,
    until: EpochSeconds = MAX_EPOCH,
) -> tuple[list[DeadLetter], tuple[Quarantined, ...]]:
    """Divide relayed dead letters into plain ones, and ones with quarantined readings that wait for a decision.

    Readings from a controller that is not assigned to the meter get that as their reason: with the original reason they
    would take the place of the same dead letter from the meter's own controller. Readings after ``until``, of
    the future by a confirmed clock, wait for no decision.
    """
    plain, quarantined = [], []
    for dead_letter in dead_letters:
        meter = meters.get(dead_letter.meter)
        blocks = None
        if meter is not None and dead_letter.reason in (Rejection.IMPLAUSIBLE, LocalReason.AHEAD):
            if not is_its(meter):
                dead_letter = replace(dead_letter, reason=LocalReason.NOT_ASSIGNED)
            blocks = quarantined_blocks(dead_letter, meter.record_types)
        if blocks is None or int(blocks.quarter.max()) * QUARTER_S > until:
            plain.append(dead_letter)
        else:
            quarantined.append((dead_letter, blocks))
    return plain, tuple(quarantined)
