"""The last heartbeat of each gateway, and the list of refills from them."""

from collections.abc import Collection
from functools import lru_cache

from sqlalchemy import Connection, select

from commonwatt.model.exceptions import ProtocolError
from commonwatt.model.units import EpochSeconds
from commonwatt.protocol.heartbeats import Heartbeat
from commonwatt.protocol.json_messages import unpack_json
from utility.readings.columns import Refilling
from utility.readings.refilling import Gateway, refilling
from utility.readings.tables import gateway_seen
from utility.registry.store.registry import closed_microgrids
from utility.registry.tables import controller

FEW = 100  # below this number of controllers, only their rows are read


def last_heartbeats(
    connection: Connection, controllers: Collection[str] | None = None
) -> dict[str, tuple[int, Heartbeat | None]]:
    """Return (time of receipt, last heartbeat; ``None``: it can't be read) of some gateways or all, by gateway."""
    statement = select(gateway_seen)
    if controllers is not None and len(controllers) < FEW:
        statement = statement.where(gateway_seen.c.controller.in_(controllers))
    rows = (row for row in connection.execute(statement) if controllers is None or row.controller in controllers)
    return {row.controller: (row.time, heartbeat_of(row.heartbeat)) for row in rows}


def refills(connection: Connection, now: EpochSeconds) -> list[Refilling]:
    """Return how far each store is; a microgrid whose meters were all removed is not missed."""
    heartbeats, closed = last_heartbeats(connection), closed_microgrids(connection)
    found = []
    for row in connection.execute(select(controller).order_by(controller.c.number)):
        heard, said = heartbeats.get(row.id, (None, None))
        if row.id in heartbeats or row.id not in closed:
            found.append(Gateway(controller=row.id, kind=row.kind, heard=heard, heartbeat=said))
    return refilling(found, now)


@lru_cache(maxsize=1_024)
def heartbeat_of(kept: str) -> Heartbeat | None:
    """Return a stored heartbeat; ``None`` if it can't be read. Nearly all are the same as a few seconds before."""
    try:
        return unpack_json(Heartbeat, kept.encode())
    except ProtocolError:
        return None  # Damaged, or of another release; the next arrives within a minute.
