"""A small town in a database.

The database is an SQLite file. A module whose tests are true of any database sets ``kind`` to ``databases.both_kinds``,
and runs on a PostgreSQL server too, one for all of them.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from commonwatt.town import Town, load_town
from tests.support.postgres import Postgres
from utility.registry import fill_registry
from utility.store.database import Database, open_database
from utility.store.tables import metadata

CLERK = "clerk"


@pytest.fixture
def town(tmp_path: Path) -> Town:
    path = tmp_path / "town.toml"
    path.write_text('microgrid = [{id = "r", kind = "residential", count = 2, houses = 2}]\n')
    return load_town(path)


@pytest.fixture
def kind() -> str:
    return "sqlite"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with Postgres(tmp_path_factory.mktemp("postgres"), durable=False) as it:
        # As an installation has it: a database of somebody who may do nothing else.
        it.execute(f"CREATE ROLE {CLERK} LOGIN PASSWORD 'secret'", f"CREATE DATABASE town OWNER {CLERK}")
        open_database(it.url_of("town", CLERK), create=True).close()
        yield it


@pytest.fixture
def url(tmp_path: Path, kind: str, request: pytest.FixtureRequest) -> str:
    if kind == "sqlite":
        return f"sqlite:///{tmp_path}/utility.db"
    server: Postgres = request.getfixturevalue("server")
    # Quicker than to make the tables anew, or to copy them.
    statements = [
        *(f"DELETE FROM {table.name}" for table in reversed(metadata.sorted_tables)),
        *(f"ALTER SEQUENCE {name} RESTART" for name in ("part_id_seq", "letter_no_seq", "meter_no_seq")),
    ]
    server.run_script("town", ";".join(statements))
    return server.url_of("town", CLERK)


@pytest.fixture
def database(url: str, town: Town) -> Iterator[Database]:
    opened = open_database(url, create=True)
    with opened.writes.begin() as connection:
        fill_registry(connection, town)
    yield opened
    opened.close()
