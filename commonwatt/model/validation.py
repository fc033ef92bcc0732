"""What makes a record unacceptable: the same rules at the gateway, record by record, and at the utility, by the batch.

The rules on a reading's value and time stand in ``reading_faults`` alone. It takes numbers or arrays of them, so that
the utility judges all blocks of a batch at once.

A reading is implausible above what the registry says of its meter's service and its battery (T1, T8). It is well
formed, but it must not be billed unseen: it is quarantined until a person releases or refuses it. Nothing is known of
how far a cumulative register may have counted, so that is not judged.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from commonwatt.model.blocks import Blocks
from commonwatt.model.records import (
    FUTURE_S,
    MAX_RECORD_S,
    EventRecord,
    HistoryRecord,
    RecordType,
    Rejection,
)
from commonwatt.model.units import (
    GROUP_S,
    MAX_ABS_READING,
    QUARTER_S,
    SLOT_S,
    VOLTS,
    EpochSeconds,
    MeterId,
    MilliwattHours,
)

EARLY_S = 7200
"""A record that ends so much after the receiver's trusted time, and no more, waits at its sender: a clock is off.

What is further in the future is no clock's fault, and must not block the rest of a log: it is rejected.
"""

MARGIN_PERCENT = 125
"""A reading may be a quarter above what the registry says: breakers carry some more for a while, and a battery's
capacity is a nominal one."""

Numbers: TypeAlias = "int | npt.NDArray[np.int64]"
"""One number, or one of each reading."""

_KNOWN_TYPES = frozenset(map(int, RecordType))
_NEVER = 2**62


@lru_cache(maxsize=1024)
def limits_of(service_amps: int, battery_capacity: MilliwattHours | None) -> Mapping[int, MilliwattHours]:
    """Return the largest plausible reading of a slot, by record type; types that can't be judged are absent.

    Args:
        service_amps: The service the meter measures; at 240 V an ampere is 1,000 mWh in a slot.
        battery_capacity: What its battery holds when full, milliwatt-hours; ``None``: no battery is known.
    """
    carried = service_amps * VOLTS * 1000 * SLOT_S // 3600
    most = {int(kind): carried for kind in RecordType if kind.is_flow}
    if battery_capacity is not None:
        most[RecordType.STORED] = battery_capacity
    return {kind: value * MARGIN_PERCENT // 100 for kind, value in most.items()}


def reading_faults(
    reading: Numbers, end: Numbers, limit: Numbers, now: EpochSeconds | None
) -> tuple[tuple[Rejection, Any], ...]:
    """Return every fault that readings may have, and whether, or which of, the readings have it; the first one counts.

    Args:
        reading: The values, milliwatt-hours. No record type may have one below zero.
        end: Second after the last one each covers.
        limit: The largest plausible value of each.
        now: The receiver's time; ``None`` where time is not trusted, and then nothing is from the future.
    """
    latest = _NEVER if now is None else now + FUTURE_S
    return (
        (Rejection.OUT_OF_RANGE, (reading > MAX_ABS_READING) | (reading < -MAX_ABS_READING)),
        (Rejection.NEGATIVE, reading < 0),
        (Rejection.FUTURE, end > latest),
        # Last: a reading held for this alone is one that can be taken when a person says so.
        (Rejection.IMPLAUSIBLE, reading > limit),
    )


def is_early(end: Numbers, now: EpochSeconds) -> Any:
    """Tell whether, or which, times are so little ahead of a trusted clock that what names them is to wait."""
    return (end > now + FUTURE_S) & (end <= now + EARLY_S)


def slot_ends(blocks: Blocks, rows: npt.NDArray[np.int64], slots: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the end of some slots of some blocks, epoch seconds."""
    ends: npt.NDArray[np.int64] = blocks.quarter[rows].astype(np.int64) * QUARTER_S + (slots + 1) * SLOT_S
    return ends


def suspects(blocks: Blocks, limits: npt.NDArray[np.int64], now: EpochSeconds | None) -> npt.NDArray[np.bool_]:
    """Return which blocks may hold a reading that has a fault; those that are not marked hold none.

    Args:
        blocks: The blocks.
        limits: The largest plausible reading of each block.
        now: As in ``reading_faults``.
    """
    ends = (blocks.quarter.astype(np.int64) + 1) * QUARTER_S
    found = np.zeros(len(blocks), np.bool_)
    # Slots that are missing have the value 0, which has no fault.
    for value in (blocks.values.max(axis=1), blocks.values.min(axis=1)):
        for _, faulty in reading_faults(value, ends, limits, now):
            found |= faulty
    more, row = blocks.extras["value"], blocks.extras["row"]
    for _, faulty in reading_faults(more, ends[row], limits[row], now):
        found[row[faulty]] = True
    return found


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What a receiver knows of a meter, to judge its records by.

    Attributes:
        meter_id: The meter's id.
        account: Its account.
        record_types: What it records.
        now: The receiver's time; ``None`` where time is not trusted, and then nothing is from the future.
        limits: The largest plausible reading of a slot by record type, milliwatt-hours; absent: any.
    """

    meter_id: MeterId
    account: int
    record_types: tuple[RecordType, ...]
    now: EpochSeconds | None
    limits: Mapping[int, MilliwattHours] = field(default_factory=dict)


def judge_history(record: HistoryRecord, expected: Expected) -> Rejection | None:
    """Return why a history record can't be accepted, or ``None`` when it can (docs/protocol.md, "Rejections")."""
    why = _judge_origin(record, expected) or _judge_period(record)
    if why is not None:
        return why
    limit = expected.limits.get(record.record_type, MAX_ABS_READING)
    faults = reading_faults(record.reading, record.end, limit, expected.now)
    return next((reason for reason, faulty in faults if faulty), None)


def _judge_origin(record: HistoryRecord, expected: Expected) -> Rejection | None:
    if record.meter_id != expected.meter_id:
        return Rejection.WRONG_METER
    if record.record_type not in _KNOWN_TYPES:
        return Rejection.UNKNOWN_TYPE
    if record.record_type not in expected.record_types:
        return Rejection.TYPE_NOT_REGISTERED
    return Rejection.WRONG_ACCOUNT if record.account != expected.account else None


def _judge_period(record: HistoryRecord) -> Rejection | None:
    if record.lossy not in (0, 1):
        return Rejection.BAD_FLAG
    if record.start % SLOT_S or record.end % SLOT_S:
        return Rejection.UNALIGNED
    if record.end <= record.start:
        return Rejection.EMPTY
    if record.end - record.start > MAX_RECORD_S:
        return Rejection.TOO_LONG
    # An average fills one aligned group of ten, never parts of two (design 1).
    if record.lossy and record.start // GROUP_S != (record.end - 1) // GROUP_S:
        return Rejection.UNALIGNED
    return None


def judge_event(record: EventRecord, expected: Expected) -> Rejection | None:
    """Return why an event record can't be accepted, or ``None`` when it can."""
    tests = (
        (record.meter_id != expected.meter_id, Rejection.WRONG_METER),
        (expected.now is not None and record.time > expected.now + FUTURE_S, Rejection.FUTURE),
    )
    return next((rejection for fails, rejection in tests if fails), None)
