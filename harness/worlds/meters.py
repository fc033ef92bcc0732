"""A house's meter for the emulator, and the acknowledgement of its puts."""

from commonwatt.model.records import RecordType
from commonwatt.model.units import EpochSeconds
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
