"""Messages of gateways, and a town elsewhere, for tests of the utility."""

from dataclasses import replace

from commonwatt.protocol.heartbeats import Heartbeat
from commonwatt.town.town import Town
from utility.database.database import Database
from utility.registry.store.registration import fill_registry


def a_heartbeat(**fields: object) -> Heartbeat:
    """Return the heartbeat of an idle gateway, with ``fields``."""
    nothing = {"time": 5, "store": 7, "backlog_parts": 0, "backlog_events": 0, "backlog_letters": 0}
    return Heartbeat.model_validate({**nothing, "aggregation": "none", **fields})


def register_in(timezone: str, database: Database, town: Town) -> None:
    """Register a town as one of another time zone."""
    with database.writes.begin() as connection:
        fill_registry(connection, replace(town, table=town.table.model_copy(update={"timezone": timezone})))
