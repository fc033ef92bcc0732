"""Meters of houses, their records and acknowledgements, and dead letters as gateways make them."""

from commonwatt.model.records import HistoryRecord, Log, RecordType, Rejection
from commonwatt.model.units import SLOT_S, EpochSeconds
from commonwatt.protocol.dead_letters import DeadLetter
from commonwatt.protocol.meter_messages import Put, PutAck
from commonwatt.town.town import Battery, Direction, Function, Meter

SOLAR = (RecordType.GENERATION, RecordType.STORED, RecordType.THROUGH)  # record types of a meter with a battery


def house_meter(
    meter: int, *, battery: Battery | None, record_types: tuple[RecordType, ...] = SOLAR, push: bool = True
) -> Meter:
    """Return the outgoing meter of a house."""
    return Meter(
        id=meter,
        microgrid="r001",
        address="10.0.0.1",
        location="house 1",
        function=Function.HOUSE,
        direction=Direction.OUTGOING,
        account=7,
        record_types=record_types,
        service_amps=200,
        battery=battery,
        push=push,
    )


def ack_of(put: Put, time: EpochSeconds) -> PutAck:
    """Return the acknowledgement of everything in a put."""
    return PutAck(
        log=put.log,
        generation=put.generation,
        first_id=put.first_id,
        last_id=put.last_id,
        time=time,
        accepted=tuple(put.counts().items()),
    )


def a_record(
    start: int,
    reading: int,
    *,
    end: int | None = None,
    meter: int = 10001,
    record_id: int = 1,
    kind: int = 3,
    account: int = 1,
    lossy: int = 0,
) -> HistoryRecord:
    """Return a meter's record of a slot, or of the time until ``end``."""
    return HistoryRecord(
        record_type=kind,
        lossy=lossy,
        record_id=record_id,
        meter_id=meter,
        account=account,
        start=start,
        end=start + SLOT_S if end is None else end,
        reading=reading,
    )


def a_letter(
    record: HistoryRecord,
    reason: int = Rejection.IMPLAUSIBLE,
    *,
    meter: int | None = None,
    generation: int = 1,
    time: int = 1_800_000_000,
) -> DeadLetter:
    """Return a record of the meter that it names, or of ``meter``, that its gateway rejected."""
    return DeadLetter(
        meter=record.meter_id if meter is None else meter,
        log=Log.HISTORY,
        reason=reason,
        generation=generation,
        record_id=record.record_id,
        time=time,
        content=record.pack(),
    )
