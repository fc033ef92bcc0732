"""The last heartbeat of each gateway."""

from sqlalchemy import Connection, select

from commonwatt.model.exceptions import ProtocolError
from commonwatt.protocol.heartbeats import Heartbeat
from commonwatt.protocol.json_messages import unpack_json
from utility.store.tables import gateway_seen


def last_heartbeats(connection: Connection) -> dict[str, tuple[int, Heartbeat | None]]:
    """Return (time of receipt, last heartbeat) by gateway; the heartbeat is ``None`` if it can't be read."""
    return {row.controller: (row.time, _heartbeat(row.heartbeat)) for row in connection.execute(select(gateway_seen))}


def _heartbeat(kept: str) -> Heartbeat | None:
    try:
        return unpack_json(Heartbeat, kept.encode())
    except ProtocolError:
        return None  # Damaged, or of another release; the next arrives within a minute.
