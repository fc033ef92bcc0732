"""``commonwatt utility break-glass``: a clerk's command without the service and without a login, which is an alarm."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated, Any

import typer

from commonwatt.cli.main import make_app as make_commands
from commonwatt.config.utility import UtilitySettings
from commonwatt.doctor.running import look
from commonwatt.model.exceptions import ConfigError
from commonwatt.runtime.clock import Clock
from utility.access.roles import Role
from utility.access.secrets import new_secret
from utility.access.store.audit_log import record
from utility.access.store.second_people import BROKEN
from utility.database.database import Database
from utility.research.decisions import short
from utility.webkit.cli.options import Commands, ConfigOption, load, local_actor, opened, place_of_database
from utility.webkit.cli.service import WAY, Way

app = Commands()


@app.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def break_glass(
    config: ConfigOption,
    why: Annotated[str, typer.Option("--why", prompt="Reason", help="The reason, kept in the audit log.")],
    words: Annotated[list[str], typer.Argument(metavar="COMMAND...", help="The command, without --config.")],
) -> None:
    """Run a command that needs a clerk's login while the service can't run, as USER@this-machine.

    It is refused while the service runs. It is an alarm until an administrator has seen it. It approves and issues
    nothing, and what it proposes or checks, a person proposes or checks again.

    Example: `utility break-glass --config utility.toml --why "disk of the service broke" corrections approve --meter
    10002`.
    """
    settings, clock = load(config)
    reason = short("--why", why, 200)
    if look(config, "utility", settings).runs:
        raise ConfigError(f"the service runs: log in with: commonwatt login --config {config}")
    with opened(settings.database, create=False, named=place_of_database(config)) as database:
        with database.writes.begin() as connection:
            words_text = " ".join(words)
            record(connection, local_actor(), int(clock.now()), BROKEN, words_text, after=reason)
        with inside(settings, clock, database):
            make_commands(words[0])([*words, "--config", str(config)], standalone_mode=False)


@contextmanager
def inside(settings: UtilitySettings, clock: Clock, database: Database) -> Iterator[None]:
    """Have commands ask an application in this process, as a clerk without a name."""
    # Imported for this command only: the import takes longer than most other commands.
    from utility.assembly.application import make_app
    from utility.assembly.metrics import UtilityMetrics
    from utility.database.health import Health
    from utility.webkit.services import Api

    key = new_secret()
    api = Api(
        database, clock, UtilityMetrics(), lambda: False, lambda: "", {}, Health(None), settings=settings, local_key=key
    )
    made = make_app(api)
    machine = replace(local_actor(), roles=frozenset({Role.CLERK}))
    made.state.gate = replace(made.state.gate, machine=machine)
    reset = WAY.set(way_into(made, key))
    try:
        yield
    finally:
        WAY.reset(reset)


def way_into(made: Any, token: str) -> Way:
    """Return how to ask an application in this process, with a token."""

    def ask(_settings: UtilitySettings, method: str, path: str, content: object) -> tuple[int, bytes]:
        body = b"" if content is None else json.dumps(content).encode()
        where, _, query = path.partition("?")
        headers = [(b"host", b"127.0.0.1"), (b"authorization", f"Bearer {token}".encode())]
        headers += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        scope = {"type": "http", "method": method, "path": where, "query_string": query.encode(), "headers": headers}
        scope |= {"raw_path": where.encode(), "scheme": "http", "client": ("127.0.0.1", 0), "http_version": "1.1"}
        told: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            told.append(message)

        asyncio.run(made(scope, receive, send))
        return told[0]["status"], b"".join(message.get("body", b"") for message in told[1:])

    return ask
