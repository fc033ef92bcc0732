"""``commonwatt towns`` on a real server: add, list, migrate, and a move whose restore is a copy of the folder."""

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import psycopg
import pytest
from sqlalchemy import text
from typer.testing import CliRunner, Result

from harness.real.postgres import Postgres
from tests.unit.utility.conftest import CLERK
from utility.database.database import open_database
from utility.database.migrate import revisions
from utility.towns import cli, store
from utility.towns.table import Town, load_towns, save_towns

pytestmark = pytest.mark.real

DATABASES = Path(__file__).parents[3] / "databases"
NEWEST = revisions()[0]


class Office:
    """A folder with a table of towns."""

    def __init__(self, folder: Path) -> None:
        self.table = folder / "towns.toml"

    def run(self, *words: str, code: int = 0) -> str:
        done: Result = CliRunner(env={"COLUMNS": "200"}).invoke(cli.app, [*words, "--towns", str(self.table)])
        assert done.exit_code == code, done.output
        return done.output


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_CALM_S", 0.1)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Postgres]:
    """Have a server with two empty databases of a role without other rights."""
    with Postgres(tmp_path, durable=False) as server:
        server.execute(
            f"CREATE ROLE {CLERK} LOGIN", *(f"CREATE DATABASE {name} OWNER {CLERK}" for name in ("north", "south"))
        )
        yield server


@pytest.fixture
def utility() -> Iterator[str]:
    """Have what answers as a utility does; the address."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"status": "ok", "version": "0.9.1", "active": True}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def add(office: Office, server: Postgres, name: str, *more: str) -> str:
    return office.run("add", name, "--database", server.url_of(name, CLERK), *more)


def test_towns_are_added_and_listed(office: Office, own: Postgres, utility: str) -> None:
    assert "empty; make its tables" in add(office, own, "north", "--utility", utility, "--head-end", "127.0.0.1:8883")
    open_database(own.url_of("south", CLERK), create=True).close()
    assert f"of schema {NEWEST}" in add(office, own, "south", "--utility", "http://127.0.0.1:9")
    own.execute("ALTER DATABASE south RENAME TO south2")
    north, south = json.loads(office.run("list", "--json"))
    assert (north["schema"], north["releases"], north["active"]) == (None, "0.9.1", utility)
    assert north["database"] == f"north at 127.0.0.1:{own.port}"
    assert (south["schema"], south["megabytes"], south["releases"], south["active"]) == (
        *("no answer", 0, "no answer", ""),
    )
    assert "0.9.1" in office.run("list")


def test_a_town_is_not_added_twice_nor_with_what_is_none(office: Office, own: Postgres, tmp_path: Path) -> None:
    add(office, own, "north")
    again = own.url_of("north", CLERK).replace("127.0.0.1", "localhost") + "?sslmode=disable"
    assert "is the database of north" in office.run("add", "west", "--database", again, code=2)
    assert "north is there already" in office.run("add", "north", "--database", own.url_of("south"), code=2)
    assert "SQLite file" in office.run("add", "west", "--database", f"sqlite:///{tmp_path}/a.db", code=2)
    assert "towns.West" in office.run("add", "West", "--database", own.url_of("south"), code=2)
    assert 'database "west" does not exist' in office.run("add", "west", "--database", own.url_of("west"), code=1)
    own.run_script("south", "CREATE TABLE theirs (n int)")
    assert "another program's" in office.run("add", "south", "--database", own.url_of("south"), code=2)
    assert [*load_towns(office.table)] == ["north"]


def test_too_few_connections_are_said(office: Office, own: Postgres) -> None:
    utilities = [word for n in range(2) for word in ("--utility", f"http://127.0.0.1:{n + 7}")]
    assert "warning" not in add(office, own, "north", *utilities)
    assert "may need 100 connections, 25 each, but it accepts 97" in add(office, own, "south", *utilities)


def test_migrate_stops_at_the_first_error_and_says_what_is_done(office: Office, own: Postgres) -> None:
    own.execute("CREATE DATABASE west")
    for name in ("north", "south", "west"):
        own.run_script(name, (DATABASES / "utility_v0026_postgresql.sql").read_text())
    own.run_script("south", "CREATE TABLE handover (theirs int)")
    save_towns(office.table, {name: Town(database=own.url_of(name)) for name in ("north", "south", "west")})
    said = office.run("migrate", code=1)
    assert f"north: up to date, schema {NEWEST}, before 0026" in said
    assert "handover" in said
    assert "up to date: north; not: south, west" in said
    assert [row["schema"] for row in json.loads(office.run("list", "--json"))] == [NEWEST, "0026", "0026"]
    own.run_script("south", "DROP TABLE handover")
    assert "west: up to date" in office.run("migrate")
    assert [row["schema"] for row in json.loads(office.run("list", "--json"))] == [NEWEST] * 3


@pytest.fixture
def copied(own: Postgres, tmp_path: Path) -> Iterator[Callable[[], Postgres]]:
    """Have a way to copy the server as it is, as a restore of the whole log does."""
    made: list[Postgres] = []

    def copy() -> Postgres:
        own.stop()
        copy = Postgres(tmp_path, durable=False)
        subprocess.run(["cp", "-a", str(own.data), str(copy.data)], check=True)
        own.start()
        copy.start()
        # A restored copy has another timeline.
        copy.stop()
        (copy.data / "standby.signal").touch()
        copy.start()
        copy.execute("SELECT pg_promote()")
        made.append(copy)
        return copy

    yield copy
    for server in made:
        server.__exit__(None, None, None)


@pytest.fixture
def moving(office: Office, own: Postgres) -> Callable[..., str]:
    """Have a town whose move was begun; repeats the move."""
    own.execute("ALTER SYSTEM SET archive_mode = on", "ALTER SYSTEM SET archive_command = 'true'")
    own.stop()
    own.start()
    open_database(own.url_of("north", CLERK), create=True).close()
    add(office, own, "north", "--stanza", "one")
    own.execute(f"GRANT EXECUTE ON FUNCTION pg_switch_wal TO {CLERK}")

    def move(to: Postgres, *more: str, code: int = 0) -> str:
        return office.run("move", "north", *(more or ("--to", to.url_of("north", CLERK))), code=code)

    return move


def number_of(server: Postgres, of: str) -> int:
    with psycopg.connect(server.url_of("north").replace("+psycopg", "")) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {of}").fetchone()[0])  # type: ignore[index]


def test_a_session_that_slept_on_the_old_place_commits_nothing(
    own: Postgres, moving: Callable[..., str], copied: Callable[[], Postgres], office: Office
) -> None:
    address = own.url_of("north").replace("+psycopg", "")
    sleeper = psycopg.connect(address.replace("postgres@", f"{CLERK}@"))
    sleeper.execute("INSERT INTO setting VALUES ('slept', '1')")
    said = moving(Postgres(office.table.parent), code=1)
    assert "--stanza=one --db-include=north --type=lsn --target=" in said
    with pytest.raises(psycopg.OperationalError):
        sleeper.commit()
    with pytest.raises(psycopg.OperationalError, match="not currently accepting connections"):
        psycopg.connect(address)
    new = copied()
    store_id = 0
    with psycopg.connect(own.url_of("south").replace("+psycopg", "")):
        assert "north is moved" in moving(new)
    assert number_of(new, "setting WHERE key = 'slept'") == 0
    moved = load_towns(office.table)["north"]
    assert (moved.database, moved.stanza) == (new.url_of("north", CLERK), None), (
        "backups of the new server are not there yet"
    )
    with closing(open_database(new.url_of("north", CLERK), create=True)) as database:
        store_id = database.store_id
    assert number_of(new, f"setting WHERE key = 'store_id' AND value = '{store_id}'") == 1
    # The same call again finds nothing to do, and the old place stays closed.
    assert "is open; there is nothing to do" in moving(new, code=2)
    with pytest.raises(psycopg.OperationalError, match="not currently accepting connections"):
        psycopg.connect(address)


def test_without_the_end_of_its_sessions_a_closed_place_takes_a_commit(
    own: Postgres, moving: Callable[..., str], monkeypatch: pytest.MonkeyPatch, office: Office
) -> None:
    monkeypatch.setattr(store, "_OTHERS", text("SELECT 1 WHERE :name = '' AND :own = 0"))
    with psycopg.connect(own.url_of("north", CLERK).replace("+psycopg", "")) as sleeper:
        sleeper.execute("INSERT INTO setting VALUES ('slept', '1')")
        assert "is not moved yet" in moving(Postgres(office.table.parent), code=1)
        sleeper.commit()
    moving(own, "--back")
    assert number_of(own, "setting WHERE key = 'slept'") == 1


def test_a_copy_that_lacks_the_end_is_refused(
    own: Postgres, moving: Callable[..., str], copied: Callable[[], Postgres], office: Office
) -> None:
    early = copied()
    assert "it is no copy of the closed place" in moving(early, code=1)
    assert "it is no copy of the closed place" in moving(early, code=1)
    assert "is on the old server" in moving(own, "--to", own.url_of("north"), code=2)
    late = copied()
    # As a restore of another database's files would be.
    late.execute("ALTER DATABASE north ALLOW_CONNECTIONS true")
    late.run_script("north", "DELETE FROM setting WHERE key = 'store_id'")
    late.execute("ALTER DATABASE north ALLOW_CONNECTIONS false")
    assert "store: None, not " in moving(late, code=1)
    with pytest.raises(psycopg.OperationalError, match="not currently accepting connections"):
        psycopg.connect(late.url_of("north").replace("+psycopg", ""))
    assert load_towns(office.table)["north"].database == own.url_of("north", CLERK)
    assert "north is open" in moving(own, "--back")
    assert number_of(own, "setting WHERE key = 'store_id'") == 1
    assert "there is nothing to do" in moving(own, "--back", code=2)
    # What was closed before it was opened again is no proof for a later move.
    assert "it is no copy of the closed place" in moving(late, code=1)


def test_a_move_without_an_archive_closes_nothing(office: Office, own: Postgres) -> None:
    open_database(own.url_of("north", CLERK), create=True).close()
    add(office, own, "north")
    to = ("move", "north", "--to", "postgresql+psycopg://127.0.0.1:1/north")
    assert "towns.north.stanza: is missing" in office.run(*to, code=2)
    town = load_towns(office.table)["north"]
    save_towns(office.table, {"north": town.model_copy(update={"stanza": "one"})})
    assert "archives no log" in office.run(*to, code=2)
    assert "keeps the name of the database, north" in office.run(*to[:-1], f"{to[-1]}2", code=2)
    assert number_of(own, "setting WHERE key = 'store_id'") == 1
    assert "has no town east" in office.run("move", "east", "--back", code=2)
