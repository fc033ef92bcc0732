"""Records as meters keep them, and dead letters as gateways make them."""

from commonwatt.model.records import HistoryRecord, Log, Rejection
from commonwatt.model.units import SLOT_S
from commonwatt.protocol.dead_letters import DeadLetter


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
