"""The meters' two records, byte for byte as the specification has them (M2, M3)."""

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import NamedTuple

from commonwatt.model.units import EpochSeconds, MeterId, MilliwattHours

HISTORY_BYTES = 36  # length of a history record on the wire
EVENT_BYTES = 24  # length of an event record on the wire
MAX_RECORD_S = 86_400  # the longest time one consolidated record may cover


_HISTORY = struct.Struct(">BBQQHIIq")
_EVENT = struct.Struct(">HHQQI")


class Log(IntEnum):
    """A meter's two logs; each log has its own record ids."""

    HISTORY = 1
    EVENT = 2


class RecordType(IntEnum):
    """The quantity in a history record."""

    GENERATION = 1  # energy generated in each slot
    STORED = 2  # level of the battery at the end of each slot
    THROUGH = 3  # energy through the meter in its direction, in each slot
    REGISTER = 4  # cumulative reading at the end of each slot, from other makers' meters with a cumulative register

    @property
    def is_flow(self) -> bool:
        """Whether the readings are energy per slot, which can be summed; otherwise they are levels."""
        return self in (RecordType.GENERATION, RecordType.THROUGH)


class State(IntFlag):
    """Bits of a meter's state in event records, live levels and outcomes; unknown bits are ignored and counted."""

    INITIALIZED = 0x0001  # up and measuring; clear: shut down
    OFF_GRID = 0x0002  # running disconnected from the power net; clear: running on it
    LOSSLESS = 0x0004  # aggregating losslessly
    LOSSY = 0x0008  # aggregating by averages
    SHARING = 0x0010  # its battery shares within the microgrid, by command
    REDUCING = 0x0020  # demand is reduced
    ISOLATED = 0x0040  # commanded to operate disconnected (``isolate``); OFF_GRID is whether it is disconnected
    DEAD_FEEDER = 0x0080  # boundary meters: the town's side has no voltage
    SWITCH_OPEN = 0x0100  # boundary meters: the boundary switch is open


def sensed(bits: int) -> State:
    """Return which of a meter's state bits follow from what it senses at the boundary: none, if it is elsewhere."""
    at_boundary = State(bits) & (State.DEAD_FEEDER | State.SWITCH_OPEN)
    return at_boundary | State(bits) & State.OFF_GRID if at_boundary else State(0)


KNOWN_STATES = sum(State)  # all bits of ``State``


def state_names(bits: int) -> list[str]:
    """Return the names of a meter's state bits; unknown ones together as a hexadecimal number."""
    unknown = bits & ~KNOWN_STATES
    return [str(state.name).lower() for state in State if bits & state] + ([f"{unknown:#06x}"] if unknown else [])


class Rejection(IntEnum):
    """The reason for rejecting a record; its number is in acknowledgements and dead letters (docs/protocol.md)."""

    WRONG_METER = 1
    UNKNOWN_TYPE = 2
    TYPE_NOT_REGISTERED = 3
    UNALIGNED = 4
    EMPTY = 5
    TOO_LONG = 6
    OUT_OF_RANGE = 7
    FUTURE = 8
    # Not a rejection any more, but by gateways before 0.3: the reason of a dead letter about an accepted record.
    WRONG_ACCOUNT = 9
    BAD_FLAG = 10
    NEGATIVE = 11
    UNKNOWN_STATE = 12  # used by gateways before 0.2; later gateways accept unknown state bits
    ID_OUTSIDE_RANGE = 13
    CONTRADICTS = 14  # another event has this id already
    # Above the meter's service or its battery's capacity (``commonwatt.model.validation``); a person decides.
    IMPLAUSIBLE = 15


class HistoryRecord(NamedTuple):
    """One reading over ``[start, end)``. A named tuple: a gateway makes millions, three times as fast."""

    record_type: int  # A ``RecordType``'s number; any byte, until it is checked
    lossy: int  # 1 if the reading is the average of the covered slots, 0 if it is exact for each slot
    record_id: int  # its number in the meter's history log
    meter_id: MeterId  # the meter
    account: int  # the account the energy belongs to; 0 means none
    start: EpochSeconds  # first second covered
    end: EpochSeconds  # second after the last one covered
    reading: MilliwattHours  # value of every slot covered, milliwatt-hours

    def pack(self) -> bytes:
        """Return the 36 bytes of the record, big-endian."""
        return _HISTORY.pack(*self)


@dataclass(frozen=True, kw_only=True, slots=True)
class EventRecord:
    """One change of a meter's state."""

    previous_state: int  # ``State`` bits before
    new_state: int  # ``State`` bits after
    record_id: int  # its number in the meter's event log
    meter_id: MeterId  # the meter
    time: EpochSeconds  # when it changed

    def pack(self) -> bytes:
        """Return the 24 bytes of the record, big-endian."""
        return _EVENT.pack(self.previous_state, self.new_state, self.record_id, self.meter_id, self.time)


def unpack_history(data: bytes) -> HistoryRecord:
    """Unpack 36 bytes; any 36 bytes are a record, valid or not."""
    return HistoryRecord._make(_HISTORY.unpack(data))


def unpack_event(data: bytes) -> EventRecord:
    """Unpack 24 bytes; any 24 bytes are a record, valid or not."""
    previous_state, new_state, record_id, meter_id, time = _EVENT.unpack(data)
    return EventRecord(
        previous_state=previous_state, new_state=new_state, record_id=record_id, meter_id=meter_id, time=time
    )
