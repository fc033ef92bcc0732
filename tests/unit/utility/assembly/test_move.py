"""The store moves from its SQLite file to PostgreSQL: every row, page and number as before; or nothing at all."""

import os
import signal
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import BigInteger, Boolean, Connection, LargeBinary, String, create_engine, inspect, select
from sqlalchemy.pool import NullPool
from typer.testing import CliRunner

from commonwatt.model.exceptions import ConfigError
from commonwatt.runtime.service import EXIT_STOPPED
from commonwatt.site.places import HEADER
from harness.console import standing_api
from harness.furnished import HOUSE, LOCAL_KEY, MONTH, furnished, store_canary, visited
from harness.real.postgres import Postgres
from harness.routes import Visitors, all_routes
from harness.surroundings.messages import append, blocks, compact
from tests.unit.utility.conftest import CLERK, NOW
from utility.access.store.audit_log import record
from utility.access.tables import audit
from utility.assembly.application import make_app
from utility.assembly.backup import move as moves
from utility.assembly.cli import app
from utility.assembly.tables import metadata
from utility.corrections.tables import correction_step
from utility.database.database import Database, open_database, save_setting
from utility.readings.store.writer import Writer
from utility.registry.tables import controller
from utility.webkit.cli import load, local_actor

pytestmark = pytest.mark.real

VALUES = {"month": MONTH, "account": str(HOUSE), "microgrid": "r001", "meter": "10001", "name": "standard"}
VALUES |= {"number": "1", "kind": "lines"}
# The town's page shows a day when its background work has read it.
READ_LATER = ("/console/town", "/console/town/day.json", "/console/town/live")
QUERY = {"start": "2026-12-30", "end": "2027-01-02", "meter": "10001", "day": "2027-01-14"}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """Return the furnished town's SQLite store, with compacted readings of several months."""
    with furnished(tmp_path, NOW) as made:
        writer = Writer(made)
        for quarter in (NOW // 900 - 9000, NOW // 900 - 6000, NOW // 900 - 1000):
            writer.commit([append(blocks({1: 7}, quarter=quarter))])
            compact(made, NOW)
        yield made


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/utility.db"


@pytest.fixture
def empty(server: Postgres) -> Iterator[str]:
    """Return the URL of an empty database on a server, whose owner has no other."""
    server.execute("CREATE ROLE me LOGIN", "CREATE DATABASE moved OWNER me")
    yield server.url_of("moved", "me")
    server.execute("DROP DATABASE moved WITH (FORCE)", "DROP ROLE me")


def moved(config: Path, to: str, code: int = 0) -> str:
    """Move by the command, which must exit with ``code``; return its output."""
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["move", "--to", to, "--config", str(config)])
    assert done.exit_code == code, done.output
    return " ".join(done.output.split())


def tables_at(url: str) -> list[str]:
    engine = create_engine(url, poolclass=NullPool)
    return inspect(engine).get_table_names()


def rows_of(url: str) -> dict[str, list[str]]:
    """Return every row of every table, as text."""
    with closing(open_database(url, create=False)) as database, database.reads.begin() as connection:
        found = {t.name: connection.execute(select(t)).all() for t in metadata.tables.values()}
        rows = {name: sorted(repr(tuple(row)) for row in some) for name, some in found.items()}
    # The first opening writes on which server the table is.
    return rows | {"setting": [row for row in rows["setting"] if not row.startswith("('place'")]}


def plant(database: Database) -> None:
    """Give each table a row of its types, after those that it refers to; delete the last one of a table."""
    with database.writes.begin() as connection:
        for table in metadata.sorted_tables:
            values = {column.key: planted(column) for column in table.c}
            for key in table.foreign_keys:
                values[key.parent.key] = connection.execute(select(key.column).limit(1)).scalar()
            if connection.execute(select(table).limit(1)).first() is None:
                connection.execute(table.insert(), values)
        last = {c.key: planted(c) for c in correction_step.c} | {"no": 4711}
        connection.execute(correction_step.insert(), last)
        connection.execute(correction_step.delete().where(correction_step.c.no == 4711))


def planted(column: Any) -> object:
    kind = column.type
    if isinstance(kind, Boolean | LargeBinary):
        return True if isinstance(kind, Boolean) else bytes(range(256))
    if isinstance(kind, String):
        return "ü'\n\\N\t"[: kind.length]
    return -(2**62) if isinstance(kind, BigInteger) and not column.primary_key else 7


def test_every_row_of_every_table_is_the_same_and_numbers_continue(
    database: Database, url: str, config: Path, empty: str
) -> None:
    plant(database)
    database.close()
    before = rows_of(url)
    assert [name for name, rows in before.items() if not rows] == []
    said = moved(config, empty)
    assert f"{sum(map(len, before.values())):,} rows were moved, and are the same there" in said
    assert f'Next: write database = "{empty}" in {config}, and start the service' in said
    assert rows_of(url) == before, "the file stays"
    assert rows_of(empty) == before
    with closing(open_database(empty, create=False, check=True)) as there, there.writes.begin() as connection:
        assert there.store_id == database.store_id, "gateways send nothing again"
        record(connection, local_actor(), NOW, "person.close", "anna")
        numbers = connection.execute(select(audit.c.no).order_by(audit.c.no)).scalars().all()
        assert numbers[-1] == numbers[-2] + 1
        steps = {c.key: planted(c) for c in correction_step.c if not c.primary_key}
        made = connection.execute(correction_step.insert().returning(correction_step.c.no), steps).scalar_one()
        assert made == 4712, "the number of a deleted row is not used again"


def answers(url: str, session: dict[str, str]) -> dict[str, tuple[int, bytes]]:
    """Return what the service answers by each route that only reads."""
    found = {}
    with (
        closing(open_database(url, create=False)) as database,
        Visitors(make_app(standing_api(database, NOW, local_key=LOCAL_KEY))) as visitors,
    ):
        for route in (route for route in all_routes() if route.is_safe and route.path not in READ_LATER):
            query = {name: value for name, value in QUERY.items() if name in route.in_query}
            answer = visitors.ask(route.method, route.address(VALUES), session, params=query)
            found[f"{route.method} {route.path}"] = answer.status_code, answer.content
    return found


def test_pages_and_bills_are_the_same_also_for_another_owner(
    database: Database, url: str, config: Path, empty: str, server: Postgres
) -> None:
    with visited(database, NOW) as visitors:
        store_canary(visitors)
        session = visitors.session("everything")
    database.close()
    before = answers(url, session)
    moved(config, empty)
    # As docs/guides/town.md gives it to another user.
    server.run_script("moved", f"REASSIGN OWNED BY me TO {CLERK}")
    after = answers(server.url_of("moved", CLERK), session)
    assert [name for name in before if before[name] != after[name]] == []
    assert sum(code == 200 for code, _ in before.values()) > 130


@pytest.mark.parametrize(
    ("to", "says"),
    [
        ("sqlite:///other.db", "--to: is an SQLite file; name an empty PostgreSQL database"),
        ("postgresql+psycopg://db.example/town", "--to: db.example is beyond this machine"),
        ("moved", "--to: is not an SQLAlchemy URL"),
        ("postgresql+psycopg://me@127.0.0.1:1/town", "--to: town: no connection to the server"),
    ],
)
def test_what_is_no_database_of_a_server_is_refused(database: Database, config: Path, to: str, says: str) -> None:
    database.close()
    assert says in moved(config, to, code=1 if "127.0.0.1" in to else 2)


def test_a_store_in_use_or_on_a_server_stays_and_a_target_with_tables_too(
    database: Database, url: str, config: Path, empty: str, server: Postgres
) -> None:
    assert "utility.db: a running utility, or one of its commands, is using it" in moved(config, empty, code=2)
    database.close()
    server.run_script("moved", "CREATE TABLE another (no int)")
    assert "--to: moved: is not empty, it has another; name a new database" in moved(config, empty, code=2)
    assert tables_at(empty) == ["another"]
    server.run_script("moved", "DROP TABLE another")
    config.write_text(HEADER + config.read_text())
    said = moved(config, empty)
    assert "under [utility] in site.toml; start commonwatt street, or else: commonwatt site init, pack, unpack" in said
    assert "--to: moved: is not empty" in moved(config, empty, code=2), "a second time"
    config.write_text(f'[utility]\ndatabase = "{empty}"\n')
    assert "database: this command is for an SQLite file" in moved(config, empty, code=2)


def test_while_it_moves_no_service_starts_and_an_interruption_leaves_nothing(
    database: Database, url: str, config: Path, empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.close()
    before = rows_of(url)
    seen = []

    def interrupted(at: float, done: int, whole: int) -> None:
        with pytest.raises(ConfigError, match="a recovery, restore or move is using it; wait for its end"):
            open_database(url, create=False)
        seen.append(done / whole)
        if done >= at * whole:
            raise KeyboardInterrupt

    for at in (0.0, 0.5, 0.75, 1.0):
        with pytest.raises(KeyboardInterrupt):
            moves.move(url, empty, "database", partial(interrupted, at))
        assert tables_at(empty) == []
    assert max(seen) == 1.0
    original = moves._copied

    def stopped(*given: Any) -> Iterator[Any]:
        yield from original(*given)
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(moves, "_copied", stopped)
        assert "stopped; nothing was moved, and " in moved(config, empty, code=EXIT_STOPPED)
    assert tables_at(empty) == []
    moved(config, empty)
    assert rows_of(empty) == before == rows_of(url)


def test_what_is_not_stored_as_it_was_read_is_not_moved(
    database: Database, config: Path, empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.writes.begin() as connection:
        save_setting(connection, "storm", "a\0b")
    database.close()
    assert "NUL" in moved(config, empty, code=1)
    assert tables_at(empty) == []
    with closing(open_database(load(config)[0].database, create=False)) as again, again.writes.begin() as connection:
        save_setting(connection, "storm", "ab")

    def changes(_: Connection, connection: Connection) -> None:
        connection.execute(controller.update().values(kind="public"))

    with monkeypatch.context() as patched:
        patched.setattr(moves, "_continue_numbers", changes)
        assert "--to: moved: controller is not stored as it was read; nothing was moved" in moved(config, empty, code=1)
    assert tables_at(empty) == []
