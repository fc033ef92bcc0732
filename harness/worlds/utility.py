"""Messages of gateways, and a town elsewhere, for tests of the utility."""

from collections.abc import Callable
from dataclasses import replace

from commonwatt.model.effects import Publish
from commonwatt.model.time.now import Trust
from commonwatt.protocol.heartbeats import Heartbeat
from commonwatt.runtime.clock import Clock
from commonwatt.town.town import Town
from utility.assembly.metrics import UtilityMetrics
from utility.database.database import Database
from utility.database.health import Health
from utility.readings.ingest.ingest import Ingest
from utility.registry.store.registration import fill_registry


def a_heartbeat(**fields: object) -> Heartbeat:
    """Return the heartbeat of an idle gateway, with ``fields``."""
    nothing = {"time": 5, "store": 7, "backlog_parts": 0, "backlog_events": 0, "backlog_letters": 0}
    return Heartbeat.model_validate({**nothing, "aggregation": "none", **fields})


def register_in(timezone: str, database: Database, town: Town) -> None:
    """Register a town as one of another time zone."""
    with database.writes.begin() as connection:
        fill_registry(connection, replace(town, table=town.table.model_copy(update={"timezone": timezone})))


def ingest_of(
    database: Database,
    clock: Clock,
    publish: Callable[[Publish], None] = lambda _: None,
    *,
    metrics: UtilityMetrics | None = None,
    health: Health | None = None,
    trust: Trust | None = None,
) -> Ingest:
    """Return the service's own ingest, with the settings' own gap age."""
    ingest = Ingest(
        database,
        clock=clock,
        metrics=(metrics or UtilityMetrics()).readings,
        publish=publish,
        gap_age_s=1800,
        health=health or Health(None),
    )
    if trust is not None:
        ingest.trust = trust
    return ingest
