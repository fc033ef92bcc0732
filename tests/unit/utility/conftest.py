"""A small town in a database, a utility's application with it, and browsers of people.

The database is an SQLite file. A module whose tests apply to every database sets ``kind`` to ``databases.both_kinds``,
and also runs on a PostgreSQL server, shared by all such modules.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from typer.testing import CliRunner

from commonwatt.runtime.clock import Clock
from commonwatt.town.loading import load_town
from commonwatt.town.town import Town
from harness.console import Browser, standing_api
from harness.real.postgres import Line, Postgres, lossy_line
from utility.access.people import Role
from utility.assembly import cli
from utility.assembly.application import make_app
from utility.assembly.tables import metadata
from utility.database.database import Database, open_database
from utility.database.migrate import empty_database
from utility.registry.store.registration import fill_registry
from utility.settings import OfficeSettings, ResearchSettings, UtilitySettings

CLERK = "clerk"
NOW = 1_800_005_000

# Months of an earlier test; retention would drop them.
_DROP_PARTITIONS = """
DO $$ DECLARE month regclass; BEGIN
  FOR month IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'compacted'::regclass LOOP
    EXECUTE 'DROP TABLE ' || month;
  END LOOP;
END $$"""


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
        # As in an installation: a database whose owner has no other rights.
        it.execute(f"CREATE ROLE {CLERK} LOGIN PASSWORD 'secret'", f"CREATE DATABASE town OWNER {CLERK}")
        open_database(it.url_of("town", CLERK), create=True).close()
        yield it


@pytest.fixture
def url(tmp_path: Path, kind: str, request: pytest.FixtureRequest) -> str:
    if kind == "sqlite":
        return f"sqlite:///{tmp_path}/utility.db"
    server: Postgres = request.getfixturevalue("server")
    # Faster than making the tables anew, or copying them.
    statements = [
        "SET session_replication_role = replica",  # The audit log's trigger refuses deletions.
        *(f"DELETE FROM {table.name}" for table in reversed(metadata.sorted_tables)),
        *(
            f"ALTER SEQUENCE IF EXISTS {table.name}_{table.autoincrement_column.name}_seq RESTART"
            for table in metadata.sorted_tables
            if table.autoincrement_column is not None
        ),
        _DROP_PARTITIONS,
    ]
    server.run_script("town", ";".join(statements))
    return server.url_of("town", CLERK)


@pytest.fixture
def config(tmp_path: Path, url: str, kind: str) -> Path:
    """Return a file of the utility with the test's database."""
    if kind == "postgresql":
        url = f"{url.replace('@', ':secret@')}?options=-c%20lock_timeout%3D3s"
    path = tmp_path / "utility.toml"
    path.write_text(f'[utility]\ndatabase = "{url}"\n')
    return path


@pytest.fixture
def command(config: Path) -> Callable[..., str]:
    """Run a command of the utility, which must exit with ``code``; return its output."""

    def run(*words: str, code: int = 0) -> str:
        done = CliRunner(env={"COLUMNS": "200"}).invoke(cli.app, [*words, "--config", str(config)])
        assert done.exit_code == code, done.output
        return " ".join(done.output.split())

    return run


@pytest.fixture
def database(url: str, kind: str, town: Town) -> Iterator[Database]:
    if kind == "sqlite":
        # Faster than making the tables anew.
        Path(url.removeprefix("sqlite:///")).write_bytes(empty_database())
    opened = open_database(url, create=True)
    with opened.writes.begin() as connection:
        fill_registry(connection, town)
    yield opened
    opened.close()


@pytest.fixture
def line(database: Database, url: str, server: Postgres, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    """Return a line to ``database``, of the kind postgresql, on which answers to commits are lost."""
    with lossy_line(url, server.port, monkeypatch) as made:
        yield made


@pytest.fixture
def clock() -> Clock:
    return Clock(origin=NOW, monotonic_origin=0, speed=0)


@pytest.fixture
def settings(tmp_path: Path) -> UtilitySettings:
    return UtilitySettings(
        second_factor="optional",
        research=ResearchSettings(releases=tmp_path / "releases"),
        office=OfficeSettings(key=tmp_path / "office-key"),
    )


@pytest.fixture
def app(database: Database, clock: Clock, settings: UtilitySettings) -> FastAPI:
    return make_app(standing_api(database, NOW, clock=clock, settings=settings))


@pytest.fixture
def browser(app: FastAPI) -> Callable[..., Browser]:
    """Return a person's browser: ``browser(Role.CLERK)``, ``browser(Role.RESIDENT, account=5)``, ``browser()``."""

    def make(*roles: Role, name: str = "", account: int | None = None) -> Browser:
        return Browser(app, *roles, name=name, account=account)

    return make
