"""Databases of a utility as benchmarks fill them."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

from commonwatt.town.town import Town
from utility.database.database import Database, open_database
from utility.registry.store.registration import fill_registry


@contextmanager
def utility_database(url: str, town: Town) -> Iterator[Database]:
    """Make a database with a town's registry."""
    with closing(open_database(url, create=True)) as database:
        with database.writes.begin() as connection:
            fill_registry(connection, town)
        yield database
