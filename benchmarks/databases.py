"""Databases of a utility as benchmarks fill them."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from commonwatt.model.effects import Publish
from commonwatt.runtime.clock import Clock
from commonwatt.town.town import Town
from utility.assembly.metrics import UtilityMetrics
from utility.database.database import Database, open_database
from utility.database.health import Health
from utility.readings.ingest.ingest import Ingest
from utility.registry.store.registration import fill_registry


@contextmanager
def utility_database(url: str, town: Town) -> Iterator[Database]:
    """Make a database with a town's registry."""
    with closing(open_database(url, create=True)) as database:
        with database.writes.begin() as connection:
            fill_registry(connection, town)
        yield database


def ingest_of(database: Database, now: int, publish: Callable[[Publish], None]) -> Ingest:
    """Return the service's own ingest, with a clock that stands."""
    clock = Clock(origin=now, monotonic_origin=0, speed=0)
    metrics = UtilityMetrics().readings
    return Ingest.load(database, clock=clock, metrics=metrics, publish=publish, gap_age_s=1800, health=Health(None))
