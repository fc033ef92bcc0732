"""Messages of gateways, a town elsewhere and exchanged meters, for tests of the utility."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from zoneinfo import ZoneInfo

from commonwatt.model.effects import Publish
from commonwatt.model.ids import MeterId
from commonwatt.model.time.now import Trust
from commonwatt.model.units import QUARTER_S, Quarter
from commonwatt.protocol.heartbeats import Heartbeat
from commonwatt.runtime.clock import Clock
from commonwatt.town.town import Town
from utility.assembly.metrics import UtilityMetrics
from utility.database.database import Database
from utility.database.health import Health
from utility.readings.ingest.ingest import Ingest
from utility.readings.store.replaced_meters import register_replacement
from utility.registry.exchange import exchanged
from utility.registry.store.accounts import load_for_change, save_dated_registry
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


def exchange(database: Database, new: Mapping[MeterId, MeterId], at: Quarter) -> None:
    """Exchange meters, each for the one that it is mapped to, from a quarter on."""
    with database.writes.begin() as connection:
        before = after = load_for_change(connection)
        for old, other in new.items():
            register_replacement(connection, old, other)
            after = exchanged(after, old, other, at, None, None)
        save_dated_registry(connection, before, after, "anna", at * QUARTER_S, ZoneInfo("America/New_York"))
