"""New records of a meter: rounding to its resolution, and the bytes (M1)."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from commonwatt.device.changes import MeterState
from commonwatt.device.description import Description
from commonwatt.model.records import EventRecord, HistoryRecord, RecordType, State
from commonwatt.model.units import EpochSeconds, MilliwattHours


class Reading(NamedTuple):
    """One reading over consecutive slots."""

    record_type: RecordType  # its quantity
    start: EpochSeconds  # first second covered
    end: EpochSeconds  # second after the last one covered
    value: MilliwattHours  # value of each slot
    lossy: bool = False  # whether it is an average


def quantised(
    description: Description,
    readings: Mapping[RecordType, MilliwattHours],
    remainders: Mapping[RecordType, MilliwattHours],
    resolution: MilliwattHours,
) -> tuple[dict[RecordType, MilliwattHours], dict[RecordType, MilliwattHours]]:
    """Round readings down to the resolution; return them, and the rest of each flow for the next slot.

    The rest is carried, so that no energy is lost.
    """
    rounded, rests = {}, dict(remainders)
    for kind in description.record_types:
        total = readings[kind] + (rests.get(kind, 0) if kind.is_flow else 0)
        rest = total % resolution
        if kind.is_flow:
            rests[kind] = rest
        rounded[kind] = total - rest
    return rounded, rests


def packed(description: Description, next_id: int, readings: Sequence[Reading]) -> list[bytes]:
    """Return the records of readings, with ids from ``next_id`` on."""
    return [
        HistoryRecord(
            record_type=reading.record_type,
            lossy=reading.lossy,
            record_id=next_id + n,
            meter_id=description.id,
            account=description.account,
            start=reading.start,
            end=reading.end,
            reading=reading.value,
        ).pack()
        for n, reading in enumerate(readings)
    ]


def event(state: MeterState, new: State, next_id: int, at: EpochSeconds) -> bytes:
    """Return the record of a change of a meter's state bits."""
    return EventRecord(
        previous_state=state.bits, new_state=new, record_id=next_id, meter_id=state.meter, time=at
    ).pack()
