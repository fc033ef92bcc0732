"""Validation of records: the same rules at the gateway, for each record, and at the utility, for each batch.

``reading_faults`` has all rules on a reading's value and time. It takes numbers or arrays, so that
the utility validates all blocks of a batch at once.

A reading is implausible above the limit from the registry: its meter's service and battery (T1, T8). It is well
formed, but it must not be billed unchecked: it is quarantined until a person releases or refuses it. A
cumulative register has no limit.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from commonwatt.model.blocks import Blocks
from commonwatt.model.records import MAX_RECORD_S, EventRecord, HistoryRecord, RecordType, Rejection
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

FUTURE_S = 900  # how far ahead of the receiver's trusted clock a record may end

EARLY_S = 7200
"""Seconds by which a record may end after the receiver's trusted time and wait at its sender: a clock is off.

A record further in the future is rejected, so that it does not block the rest of a log.
"""

MARGIN_PERCENT = 125
"""A reading may exceed the registry's limit by a quarter: breakers carry more for a while, and a battery's
capacity is nominal."""

Numbers: TypeAlias = "int | npt.NDArray[np.int64]"  # one number, or an array with one number for each reading

_KNOWN_TYPES = frozenset(map(int, RecordType))
_NEVER = 2**62


@lru_cache(maxsize=1024)
def limits_of(service_amps: int, battery_capacity: MilliwattHours | None) -> Mapping[int, MilliwattHours]:
    """Return the largest plausible reading of a slot, by record type; types without a limit are absent.

    Args:
        service_amps: The service the meter measures; at 240 V an ampere is 1,000 mWh in a slot.
        battery_capacity: Its battery's capacity, milliwatt-hours; ``None``: no battery is known.
    """
    carried = service_amps * VOLTS * 1000 * SLOT_S // 3600
    most = {int(kind): carried for kind in RecordType if kind.is_flow}
    if battery_capacity is not None:
        most[RecordType.STORED] = battery_capacity
    return {kind: value * MARGIN_PERCENT // 100 for kind, value in most.items()}


def reading_faults(
    reading: Numbers, end: Numbers, limit: Numbers, now: EpochSeconds | None
) -> tuple[tuple[Rejection, Any], ...]:
    """Return every possible fault, and whether (or which) readings have it; the first fault counts.

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
        # Last: a person may release a reading whose only fault is this one.
        (Rejection.IMPLAUSIBLE, reading > limit),
    )


def is_early(end: Numbers, now: EpochSeconds) -> Any:
    """Return whether (or which) times are so little ahead of a trusted clock that their records must wait."""
    return (end > now + FUTURE_S) & (end <= now + EARLY_S)


def slot_ends(blocks: Blocks, rows: npt.NDArray[np.int64], slots: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the end of some slots of some blocks, epoch seconds."""
    ends: npt.NDArray[np.int64] = blocks.quarter[rows].astype(np.int64) * QUARTER_S + (slots + 1) * SLOT_S
    return ends


def suspects(blocks: Blocks, limits: npt.NDArray[np.int64], now: EpochSeconds | None) -> npt.NDArray[np.bool_]:
    """Return which blocks may have a reading with a fault; blocks without a mark have none.

    Args:
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
    """A meter's registry entry and the time, for the validation of its records.

    Its account is not among them: any account is accepted, and the utility's registry says whose a record is.
    """

    meter_id: MeterId  # the meter's id
    record_types: tuple[RecordType, ...]  # its record types
    # The receiver's time; ``None`` where time is not trusted, and then nothing is from the future.
    now: EpochSeconds | None
    # The largest plausible reading of a slot by record type, milliwatt-hours; absent: any.
    limits: Mapping[int, MilliwattHours] = field(default_factory=dict)


def judge_history(record: HistoryRecord, expected: Expected) -> Rejection | None:
    """Return the reason to reject a history record, or ``None`` if it is valid (docs/protocol.md, "Rejections")."""
    why = _judge_origin(record, expected) or _judge_period(record)
    if why is not None:
        return why
    limit = expected.limits.get(record.record_type, MAX_ABS_READING)
    if 0 <= record.reading <= min(limit, MAX_ABS_READING) and (expected.now is None or record.end <= expected.now):
        return None  # A shortcut for nearly all records: ``reading_faults`` finds no fault in them, more slowly.
    faults = reading_faults(record.reading, record.end, limit, expected.now)
    return next((reason for reason, faulty in faults if faulty), None)


def _judge_origin(record: HistoryRecord, expected: Expected) -> Rejection | None:
    if record.meter_id != expected.meter_id:
        return Rejection.WRONG_METER
    if record.record_type not in _KNOWN_TYPES:
        return Rejection.UNKNOWN_TYPE
    return Rejection.TYPE_NOT_REGISTERED if record.record_type not in expected.record_types else None


def _judge_period(record: HistoryRecord) -> Rejection | None:
    if record.lossy not in (0, 1):
        return Rejection.BAD_FLAG
    if record.start % SLOT_S or record.end % SLOT_S:
        return Rejection.UNALIGNED
    if record.end <= record.start:
        return Rejection.EMPTY
    if record.end - record.start > MAX_RECORD_S:
        return Rejection.TOO_LONG
    # An average covers one aligned group of ten, never parts of two groups (docs/architecture.md).
    if record.lossy and record.start // GROUP_S != (record.end - 1) // GROUP_S:
        return Rejection.UNALIGNED
    return None


def judge_event(record: EventRecord, expected: Expected) -> Rejection | None:
    """Return the reason to reject an event record, or ``None`` if it is valid."""
    tests = (
        (record.meter_id != expected.meter_id, Rejection.WRONG_METER),
        (expected.now is not None and record.time > expected.now + FUTURE_S, Rejection.FUTURE),
    )
    return next((rejection for fails, rejection in tests if fails), None)
