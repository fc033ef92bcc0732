"""The registered controllers with their last heartbeats, for the list of refills."""

from sqlalchemy import Connection, select

from commonwatt.model.units import EpochSeconds
from utility.readings.columns import Refilling
from utility.readings.refilling import Gateway, refilling
from utility.readings.store.heartbeats import last_heartbeats
from utility.registry.store.removed_meters import closed_microgrids
from utility.registry.tables import controller


def refills(connection: Connection, now: EpochSeconds) -> list[Refilling]:
    """Return how far each store is; a microgrid whose meters were all removed is not missed."""
    heartbeats, closed = last_heartbeats(connection), closed_microgrids(connection)
    found = []
    for row in connection.execute(select(controller).order_by(controller.c.number)):
        heard, said = heartbeats.get(row.id, (None, None))
        if row.id in heartbeats or row.id not in closed:
            found.append(Gateway(controller=row.id, kind=row.kind, heard=heard, heartbeat=said))
    return refilling(found, now)
