"""Recordings without readings: energies, levels and rejected records are replaced by zeros."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from commonwatt.codec.packing import pack, unpack
from commonwatt.model.blocks import EXTRA, Blocks
from commonwatt.model.exceptions import ProtocolError
from commonwatt.model.records import HistoryRecord, Log, unpack_history
from commonwatt.protocol.dead_letters import DeadLetter
from commonwatt.protocol.meter_messages import unpack_level, unpack_put
from commonwatt.protocol.topics import LEVELS, RECORDS
from gateway.changes import Part
from gateway.collect.last_minute import LastMinute
from gateway.control.meter_view import MeterView
from gateway.control.plausibility import Recorded
from gateway.events import FromMeter, NotStored, Reported
from gateway.household.totals import Totals
from gateway.recorder.pickled import Pickler, dumps, framed, loads, unframed
from gateway.recorder.tape import Player, noted


class Blanking(Pickler):
    """Writes values without the readings in them."""

    def reducer_override(self, value: Any) -> Any:
        """Return how a value is written."""
        made = _blank(value)
        return NotImplemented if made is value else made.__reduce_ex__(5)


def without_readings(frames: Sequence[bytes]) -> list[bytes]:
    """Return the frames of a recording without readings; of a replay of them no hash can be compared."""
    return [framed([dumps(_entry(loads(each, Player())), Blanking) for each in unframed(frame)]) for frame in frames]


def _entry(found: Any) -> Any:
    """Return an entry without readings in what was read of the store; the state at the begin has no reads."""
    if len(found) == 2:
        return found
    *event, reads, digest = found
    return *event, [dumps(_read(*noted(read)), Blanking) for read in reads], digest


def _read(name: str, value: Any) -> tuple[str, Any]:
    is_total = name == "setting" and isinstance(value, str) and '"highest"' in value  # Of a household's place.
    return name, "{}" if is_total else value


def _blank(value: Any) -> Any:
    """Return a value without its readings; a value that has none is returned itself."""
    match value:
        case FromMeter(topic, payload) | NotStored(topic, payload):
            return type(value)(topic, _payload(topic, payload))
        case Part():
            return replace(value, payload=bytes(pack(_zeros(unpack([value.key], [value.payload])))[0]))
        case Blocks():
            return _zeros(value) if value.values.any() or len(value.extras) else value
        case MeterView() | Recorded() if value.level:
            return replace(value, level=0)
        case LastMinute() if value._minutes:  # noqa: SLF001 - readings of a minute, which no other room needs
            return LastMinute()
        case HistoryRecord() if value.reading:
            return value._replace(reading=0)
        case DeadLetter() if value.content:
            return replace(value, content=b"")
        case Totals() if value.sums:
            return Totals(value.part)
        case Reported() if "report" in value.said:
            return replace(value, said={"report": ""})
    return value


def _zeros(blocks: Blocks) -> Blocks:
    return replace(blocks, values=np.zeros_like(blocks.values), extras=np.empty(0, EXTRA))


def _payload(topic: str, payload: bytes) -> bytes:
    """Return a meter's message without readings; one that can't be read loses all."""
    try:
        if topic.endswith(f"/{LEVELS}"):
            return replace(unpack_level(payload), level=0).pack()
        if not topic.endswith(f"/{RECORDS}"):
            return payload
        put = unpack_put(payload)
    except ProtocolError:
        return b""
    if put.log is not Log.HISTORY:
        return payload
    return replace(put, records=tuple(unpack_history(one)._replace(reading=0).pack() for one in put.records)).pack()
