"""The last heartbeat of each gateway."""

from collections.abc import Collection

from sqlalchemy import Connection, select

from commonwatt.model.exceptions import ProtocolError
from commonwatt.protocol.heartbeats import Heartbeat
from commonwatt.protocol.json_messages import unpack_json
from utility.readings.tables import gateway_seen

FEW = 100  # below this number of controllers, only their rows are read


def last_heartbeats(
    connection: Connection, controllers: Collection[str] | None = None
) -> dict[str, tuple[int, Heartbeat | None]]:
    """Return (time of receipt, last heartbeat) by gateway; the heartbeat is ``None`` if it can't be read.

    Args:
        connection: Where to read.
        controllers: The controllers wanted; ``None``: all.
    """
    statement = select(gateway_seen)
    if controllers is not None and len(controllers) < FEW:
        statement = statement.where(gateway_seen.c.controller.in_(controllers))
    rows = (row for row in connection.execute(statement) if controllers is None or row.controller in controllers)
    return {row.controller: (row.time, _heartbeat(row.heartbeat)) for row in rows}


def _heartbeat(kept: str) -> Heartbeat | None:
    try:
        return unpack_json(Heartbeat, kept.encode())
    except ProtocolError:
        return None  # Damaged, or of another release; the next arrives within a minute.
