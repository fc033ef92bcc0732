"""Commands that decide, which ask an application in this process as a person who is logged in: no service, no port."""

import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any

import typer.main
from typer import Typer
from typer.core import TyperGroup
from typer.testing import CliRunner

from commonwatt.cli.main import make_app as make_commands
from commonwatt.model.units import EpochSeconds
from harness.console import password_hash
from harness.furnished import token_of
from utility.access.people import Role
from utility.access.store import access
from utility.assembly.application import make_app
from utility.assembly.cli import way_into
from utility.assembly.metrics import UtilityMetrics
from utility.database.database import Database, open_database
from utility.database.health import Health
from utility.settings import UtilitySettings
from utility.webkit import cli as options
from utility.webkit.cli import WAY, Way
from utility.webkit.services import Api

WHO = "--as"  # before a command's words of a test: the person who is logged in


def token_for(database: Database, name: str, now: EpochSeconds) -> str:
    """Return a token of a clerk and approver, who is added if nobody has the name."""
    with database.writes.begin() as connection:
        if access.find_person(connection, name) is None:
            roles = frozenset({Role.CLERK, Role.APPROVER})
            person = access.Person(name=name, display=name, state="active", roles=roles, account=None, created=now)
            access.add_person(connection, person, "harness")
            access.set_password(connection, name, password_hash())
    return token_of(database, name, "clerk,approver", now)["Authorization"].split()[1]


@contextmanager
def logged_in(database: Database, config: Path, words: Sequence[str]) -> Iterator[list[str]]:
    """Let a command ask as the person whom its words name with ``WHO``, or only read; yield the other words."""
    left, name = list(words), ""
    if WHO in left:
        place = left.index(WHO)
        name = left[place + 1]
        del left[place : place + 2]

    @cache
    def service() -> Way:
        settings, clock = options.load(config)
        settings = settings.model_copy(update={"second_factor": "optional"})
        api = Api(database, clock, UtilityMetrics(), lambda: True, lambda: "", {}, Health(None), settings=settings)
        return way_into(make_app(api), token_for(database, name, api.machine_s()) if name else api.local_key)

    def way(settings: UtilitySettings, method: str, path: str, content: object) -> tuple[int, bytes]:
        if not name and (method != "GET" or path == "/me"):
            return 401, b'{"detail": "nobody is logged in here"}'
        return service()(settings, method, path, content)

    reset = WAY.set(way)
    try:
        yield left
    finally:
        WAY.reset(reset)


def shown(config: Path, *words: str) -> Any:
    """Return what ``commonwatt show`` prints as JSON."""
    return json.loads(run_as(config, "show", *words, "--format", "json"))


def run_as(config: Path, *words: str) -> str:
    """Run a command of `commonwatt` in this process, without its service; return its output."""
    database = open_database(options.load(config)[0].database, create=False)
    told = io.StringIO()
    try:
        with logged_in(database, config, words) as left, redirect_stdout(told):
            _commands(left[0])([*left, "--config", str(config)], standalone_mode=False)
    finally:
        database.close()
    return told.getvalue()


def typed(config: Path, database: Database, *words: str, code: int = 0) -> str:
    """Type a command of `commonwatt`, which must exit with ``code``; return its output in one line."""
    with logged_in(database, config, words) as left:
        done = CliRunner(env={"COLUMNS": "200"}).invoke(_app(left[0]), [*left, "--config", str(config)])
    assert done.exit_code == code, done.output
    return " ".join(done.output.split())


@cache
def _app(name: str) -> Typer:
    return make_commands(name)


@cache
def _commands(name: str) -> TyperGroup:
    """Return the command line with one command; a process makes it once."""
    found = typer.main.get_command(make_commands(name))
    assert isinstance(found, TyperGroup)
    return found
