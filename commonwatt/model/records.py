"""The meters' two records, byte for byte as the specification has them (M2, M3), and what makes one unacceptable."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag

from commonwatt.model.units import GROUP_S, MAX_ABS_READING, SLOT_S, EpochSeconds, MeterId, MilliwattHours

HISTORY_BYTES = 36
"""Length of a history record on the wire."""

EVENT_BYTES = 24
"""Length of an event record on the wire."""

MAX_RECORD_S = 86_400
"""The longest time one consolidated record may cover."""

FUTURE_S = 900
"""How far ahead of the receiver's trusted clock a record may end."""

_KNOWN_TYPES = frozenset(range(1, 5))
_HISTORY = struct.Struct(">BBQQHIIq")
_EVENT = struct.Struct(">HHQQI")


class Log(IntEnum):
    """A meter's two logs; each numbers its records by itself."""

    HISTORY = 1
    EVENT = 2


class RecordType(IntEnum):
    """What a history record holds."""

    GENERATION = 1
    """Energy generated in each slot."""
    STORED = 2
    """Level of the battery at the end of each slot."""
    THROUGH = 3
    """Energy through the meter, in its one direction, in each slot."""
    REGISTER = 4
    """Cumulative reading at the end of each slot, of foreign meters that keep one."""

    @property
    def is_flow(self) -> bool:
        """Whether the readings are energy in a slot, which can be summed; the others are levels."""
        return self in (RecordType.GENERATION, RecordType.THROUGH)


class State(IntFlag):
    """Bits of a meter's state, as in event records and live levels."""

    INITIALIZED = 0x0001
    """Up and measuring; clear: shut down."""
    OFF_GRID = 0x0002
    """Running disconnected from the power net; clear: running on it."""
    LOSSLESS = 0x0004
    """Aggregating losslessly."""
    LOSSY = 0x0008
    """Aggregating by averages."""
    SHARING = 0x0010
    """Its battery is told to share within the microgrid."""
    REDUCING = 0x0020
    """Demand is reduced."""
    ISOLATED = 0x0040
    """Told to operate disconnected (``isolate``); OFF_GRID says whether it is."""


class Rejection(IntEnum):
    """Why one record can't be accepted; the number stands in acknowledgements and letters (docs/protocol.md)."""

    WRONG_METER = 1
    UNKNOWN_TYPE = 2
    TYPE_NOT_REGISTERED = 3
    UNALIGNED = 4
    EMPTY = 5
    TOO_LONG = 6
    OUT_OF_RANGE = 7
    FUTURE = 8
    WRONG_ACCOUNT = 9
    BAD_FLAG = 10
    NEGATIVE = 11
    UNKNOWN_STATE = 12
    ID_OUTSIDE_RANGE = 13
    CONTRADICTS = 14
    """Another event has this id already."""
    IMPLAUSIBLE = 15
    """More than its service can carry, or its battery hold (``commonwatt.model.validation``); held for a person to decide."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HistoryRecord:
    """One reading over ``[start, end)``.

    Attributes:
        record_type: A ``RecordType``'s number; any byte, until it is checked.
        lossy: 1 when the reading is the average of the slots covered, 0 when each of them has exactly it.
        record_id: Its number in the meter's history log.
        meter_id: The meter.
        account: The account the energy belongs to; 0 means none.
        start: First second covered.
        end: Second after the last one covered.
        reading: Value of every slot covered, milliwatt-hours.
    """

    record_type: int
    lossy: int
    record_id: int
    meter_id: MeterId
    account: int
    start: EpochSeconds
    end: EpochSeconds
    reading: MilliwattHours

    def pack(self) -> bytes:
        """Return the 36 bytes of the record, big-endian."""
        return _HISTORY.pack(
            self.record_type,
            self.lossy,
            self.record_id,
            self.meter_id,
            self.account,
            self.start,
            self.end,
            self.reading,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class EventRecord:
    """One change of a meter's state.

    Attributes:
        previous_state: ``State`` bits before.
        new_state: ``State`` bits after.
        record_id: Its number in the meter's event log.
        meter_id: The meter.
        time: When it changed.
    """

    previous_state: int
    new_state: int
    record_id: int
    meter_id: MeterId
    time: EpochSeconds

    def pack(self) -> bytes:
        """Return the 24 bytes of the record, big-endian."""
        return _EVENT.pack(self.previous_state, self.new_state, self.record_id, self.meter_id, self.time)


def unpack_history(data: bytes) -> HistoryRecord:
    """Read 36 bytes; any 36 bytes are a record, acceptable or not."""
    kind, lossy, record_id, meter_id, account, start, end, reading = _HISTORY.unpack(data)
    return HistoryRecord(
        record_type=kind,
        lossy=lossy,
        record_id=record_id,
        meter_id=meter_id,
        account=account,
        start=start,
        end=end,
        reading=reading,
    )


def unpack_event(data: bytes) -> EventRecord:
    """Read 24 bytes; any 24 bytes are a record, acceptable or not."""
    previous_state, new_state, record_id, meter_id, time = _EVENT.unpack(data)
    return EventRecord(
        previous_state=previous_state, new_state=new_state, record_id=record_id, meter_id=meter_id, time=time
    )


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
    why = _judge_origin(record, expected) or _judge_period(record) or _judge_reading(record)
    if why is not None:
        return why
    if expected.now is not None and record.end > expected.now + FUTURE_S:
        return Rejection.FUTURE
    # Last: a record held for this alone is one that can be taken when a person says so.
    if record.reading > expected.limits.get(record.record_type, MAX_ABS_READING):
        return Rejection.IMPLAUSIBLE
    return None


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


def _judge_reading(record: HistoryRecord) -> Rejection | None:
    if abs(record.reading) > MAX_ABS_READING:
        return Rejection.OUT_OF_RANGE
    return Rejection.NEGATIVE if record.reading < 0 else None


def judge_event(record: EventRecord, expected: Expected) -> Rejection | None:
    """Return why an event record can't be accepted, or ``None`` when it can."""
    known = sum(State)
    tests = (
        (record.meter_id != expected.meter_id, Rejection.WRONG_METER),
        ((record.previous_state | record.new_state) & ~known, Rejection.UNKNOWN_STATE),
        (expected.now is not None and record.time > expected.now + FUTURE_S, Rejection.FUTURE),
    )
    return next((rejection for fails, rejection in tests if fails), None)
