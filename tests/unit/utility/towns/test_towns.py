"""``commonwatt towns`` on a real server."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from typer.testing import CliRunner, Result

from harness.real.postgres import Postgres
from tests.unit.utility.conftest import CLERK
from utility.database.database import open_database
from utility.database.migrate import revisions
from utility.towns import cli

pytestmark = pytest.mark.real

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


def test_towns_are_listed_with_what_their_databases_and_utilities_say(
    office: Office, own: Postgres, utility: str
) -> None:
    own.execute("CREATE DATABASE west")
    own.run_script("west", "CREATE TABLE theirs (n int)")
    open_database(own.url_of("south", CLERK), create=True).close()
    urls = {name: own.url_of(name, CLERK) for name in ("north", "south", "west", "east")}
    at = {"north": utility, "south": "http://127.0.0.1:9"}
    office.table.write_text(
        "".join(
            f'[towns.{name}]\ndatabase = "{url}"\nutilities = {json.dumps([at[name]] if name in at else [])}\n'
            for name, url in urls.items()
        )
    )
    north, south, west, east = json.loads(office.run("list", "--json"))
    assert (north["schema"], north["releases"], north["active"]) == (None, "0.9.1", utility)
    assert north["database"] == f"north at 127.0.0.1:{own.port}"
    assert (south["schema"], south["megabytes"] > 5, south["releases"], south["active"]) == (
        *(NEWEST, True, "no answer", ""),
    )
    assert [(row["schema"], row["megabytes"]) for row in (west, east)] == [
        ("another program's", None),
        ("no answer", None),
    ]
    assert "0.9.1" in office.run("list")
