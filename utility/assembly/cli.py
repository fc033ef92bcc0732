"""``commonwatt utility``: register a town, run the service, print; migrate, recover, back up, move; break the glass."""

import asyncio
import gc
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import typer

from commonwatt.cli.main import instead_of
from commonwatt.cli.main import make_app as make_commands
from commonwatt.cli.options import show, shown_progress
from commonwatt.clique.cliques import BEATS_PORT, write_clique_files
from commonwatt.clique.revocation import write_revoked_list
from commonwatt.codec import dumps
from commonwatt.config.database_url import database_fault, parse_database
from commonwatt.doctor.running import look
from commonwatt.identity.enrolment import alone
from commonwatt.model.calendar import LOCAL_FORMS
from commonwatt.model.exceptions import ConfigError, StoreError
from commonwatt.model.text import counted
from commonwatt.model.units import MAX_EPOCH, QUARTER_S
from commonwatt.protocol.topics import UTILITY
from commonwatt.runtime.clock import Clock, wall_clock
from commonwatt.runtime.service import progress_bar, run_service, stop_told
from commonwatt.site.places import HEADER
from commonwatt.town.loading import load_town
from commonwatt.town.town import Town
from utility.access.people import Role
from utility.access.secrets import new_secret
from utility.access.store.audit_log import BROKEN, record
from utility.assembly.backup.backup import backup, command_line, restore
from utility.assembly.backup.move import move
from utility.assembly.recovery import recover
from utility.control import cli as control
from utility.database.database import Database, new_store_id, open_database, sqlite_path
from utility.people import cli as cli_people
from utility.readings.store import reads
from utility.registry.store.accounts import accounts_at
from utility.registry.store.enrolment import enrol, refuse_lost, refuse_moved
from utility.registry.store.registration import fill_registry
from utility.research.decisions import short
from utility.settings import PGBACKREST, UtilitySettings
from utility.webkit.cli import (
    WAY,
    Commands,
    ConfigOption,
    Way,
    from_file,
    load,
    local_actor,
    opened,
    place_of_database,
    time_option,
)

upkeep_app = Commands()

_UNCHANGED = "stopped; the database is unchanged"


@upkeep_app.command()
def migrate(
    config: ConfigOption,
    new_store: Annotated[
        bool, typer.Option("--new-store", help="Give it a new store id: every gateway sends its backup again.")
    ] = False,
) -> None:
    """Make the database, or bring it up to date, and say from which schema to which; `run` does the same at its start.

    Gateways notice by themselves that a database was restored, and send again what it lacks. To have each send its
    whole backup, stop the service, use --new-store, and start the service again.
    """
    settings, _ = load(config)
    with opened(settings.database, create=True, named=place_of_database(config)) as database:
        store_id = database.write(new_store_id) if new_store else database.store_id
        before, schema = database.schema
    if before is None:
        done = f"the database is made, with schema {schema}"
    elif before != schema:
        done = f"the database is brought from schema {before} to {schema}"
    else:
        done = f"the database is up to date, with schema {schema}"
    typer.echo(f"{done}; its store is {store_id:x}")


@upkeep_app.command("recover")
def recovery_command(config: ConfigOption) -> None:
    """Replace a damaged SQLite database by a new one with all undamaged rows; stop the service first.

    The damaged file is kept beside the new one, under a name with the date; the newest three are kept. Start the
    service afterwards: the gateways send their backups again, and the gap finder requests the rest. If meters are
    missing, register the town again. People whose second factor is lost are named; they need a new link.
    """
    settings, clock = load(config)
    path = _file(settings)
    with stop_told(_UNCHANGED):
        done = recover(path, int(clock.now()))
    show("recovered rows", done.table(), ("table", "taken over", "damaged"))
    for what in done.unreadable:
        typer.echo(what)
    for name in done.closed:
        again = command_line(config, "people", "link", name)
        typer.echo(f"{name}: the second factor is lost, so the password was deleted; make a new link with: {again}")
    old = "the damaged database" if done.found_damage else "no damaged row was found; the old database"
    kept = f"{old} is kept as {done.quarantined}" if done.quarantined else "the recovery begun before is finished"
    typer.echo(f"{kept}; start the service again: the gateways send their backups, and what is missing is asked for")


@upkeep_app.command("backup")
def backup_command(
    file: Annotated[Path, typer.Argument(help="The file to write; must not exist yet.")], config: ConfigOption
) -> None:
    """Write a backup of an SQLite database; the service may keep running.

    The backup is a snapshot. Before it gets its name it is checked completely, as `restore` does: a file with
    that name can be restored. Damaged parts are copied as they are, and reported: the exit code is then 1.
    Tokens and settings are separate files: back them up too. A PostgreSQL database is backed up by pgBackRest: see
    docs/stores.md.
    """
    settings, _ = load(config)
    path = _file(settings)
    with stop_told(f"stopped; there is no {file}, and the database is unchanged"), shown_progress("backup") as tell:
        damaged = backup(path, file, config, tell)
    size = file.stat().st_size
    again = command_line(config, "restore", file)
    typer.echo(f"{file}: {size / 1e6:.1f} MB, checked; restore with: {again}")
    if damaged:
        raise StoreError(
            f"{damaged} of its parts are damaged, in the database itself or on the way here; everything else is in "
            f"the backup. Check the database with: {command_line(config, 'dump')} > /dev/null "
            "(what is damaged is quarantined and asked for again), then make another"
        )


@upkeep_app.command("restore")
def restore_command(
    file: Annotated[Path, typer.Argument(help="A backup, made by `commonwatt utility backup`.")],
    config: ConfigOption,
    replace: Annotated[bool, typer.Option("--replace", help="Replace a database that is not empty.")] = False,
) -> None:
    """Replace an SQLite database by a backup; stop the service first.

    The backup is checked completely first; if it is invalid, or the command is interrupted, the database is unchanged.
    The restored database has a new store id, so that the gateways send again what was acknowledged since the backup
    was made, as far back as they keep it.

    A replaced file is kept beside it, as FILE.replaced-DATE; the newest three of those are kept. A PostgreSQL database
    is restored by pgBackRest: see docs/stores.md.
    """
    settings, clock = load(config)
    path = _file(settings)
    with stop_told(_UNCHANGED), shown_progress("restore") as tell:
        quarantined = restore(path, file, int(clock.now()), config, replace=replace, tell=tell)
    if quarantined is not None:
        typer.echo(f"what was there is kept as {quarantined}")
    typer.echo("restored, under a new store id; start the service again: the gateways send newer data")


@upkeep_app.command("move")
def move_command(
    to: Annotated[
        str, typer.Option("--to", help="SQLAlchemy URL of an empty database, such as postgresql+psycopg:///town.")
    ],
    config: ConfigOption,
) -> None:
    """Move the whole store from its SQLite file to an empty PostgreSQL database; stop the service first.

    Every row is copied, in one transaction, read back and compared; then the command prints which setting to change.
    The file stays as it was. After a failure or an interruption the database is as empty as before.

    A password stands in a file that the URL names, ?passfile=FILE, rather than in the list of processes.
    """
    settings, _ = load(config)
    path = _file(settings)
    if fault := database_fault(to):
        raise ConfigError(f"--to: {fault}")
    if to.startswith("sqlite"):
        raise ConfigError("--to: is an SQLite file; name an empty PostgreSQL database")
    with stop_told(f"stopped; nothing was moved, and {path} is unchanged"), shown_progress("move") as tell:
        rows = move(settings.database, to, place_of_database(config), tell)
    typer.echo(f"{rows:,} rows were moved, and are the same there; {path} stays as it was")
    shown = parse_database(to).render_as_string(hide_password=True)
    where = f"in {config}, and start the service"
    if config.read_text(encoding="utf-8").startswith(HEADER):
        where = "under [utility] in site.toml; start commonwatt street, or else: commonwatt site init, pack, unpack"
    typer.echo(f'Next: write database = "{shown}" {where}')


def _file(settings: UtilitySettings) -> Path:
    path = sqlite_path(settings.database)
    if path is None:
        raise ConfigError(f"database: this command is for an SQLite file; {PGBACKREST}")
    return path


glass_app = Commands()


@glass_app.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def break_glass(
    config: ConfigOption,
    why: Annotated[str, typer.Option("--why", prompt="Reason", help="The reason, kept in the audit log.")],
    words: Annotated[list[str], typer.Argument(metavar="COMMAND...", help="The command, without --config.")],
) -> None:
    """Run a command that needs a login while the service can't run, as USER@this-machine.

    It is refused while the service runs. It is an alarm until an administrator has seen it. It approves and issues
    nothing, and what it proposes or checks, a person proposes or checks again.

    Example: `utility break-glass --config utility.toml --why "disk of the service broke" do jobs/bills/pause`.
    """
    if told := instead_of(words):
        raise ConfigError(told)
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
    """Have commands ask an application in this process, as clerk, operator and administrator without a name."""
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
    machine = replace(local_actor(), roles=frozenset({Role.CLERK, Role.OPERATOR, Role.ADMIN}))
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


app = Commands(
    help="The utility: stores, completes, counts and shows what the gateways relay.",
    no_args_is_help=True,
)
for commands in (control.app, upkeep_app, glass_app):
    app.add_typer(commands)
app.add_typer(control.storm_app)
app.add_typer(cli_people.people_app, name="people")


@app.command()
def run(config: ConfigOption) -> None:
    """Run the service until SIGTERM or Ctrl-C.

    It stores what the gateways relay over the head-end broker, requests missing data, and serves the API, its page
    /docs and /metrics. It starts without broker and network, and connects when they are there. It makes the
    database, or migrates it to the newest schema.

    With name_in_cluster it stands by until no other utility of the database is active, and does not migrate.

    An example of the file: commonwatt config example utility
    """
    settings, clock = load(config)
    # Imported for this command only: the import takes longer than most other commands.
    gc.disable()  # As while the command itself was loaded.
    from utility.assembly.doctor import token_of
    from utility.assembly.service import UtilityService

    gc.freeze()
    gc.enable()
    token = token_of(settings)
    if settings.name_in_cluster is not None:
        from utility.assembly.standby import Standby

        run_service(Standby(settings, clock, token, place_of_database(config)).run, lives_long=False)
        return
    database = open_database(settings.database, create=True, check=True, named=place_of_database(config))
    try:
        run_service(UtilityService(settings, clock, database, token).run, lives_long=False)
    finally:
        database.close()


@app.command()
def register(
    town: Annotated[Path, typer.Option("--town", help="The town file (TOML).")],
    database: Annotated[
        str | None,
        typer.Option("--database", help="SQLAlchemy URL of the database to fill, such as sqlite:///utility.db."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Fill the database that the utility's file (TOML) names.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the files of brokers, gateways and meters.")
    ] = None,
    beats: Annotated[
        list[str] | None,
        typer.Option(
            "--beats",
            help="Where the utility receives controllers' beats, HOST:PORT: writes clique.json for controllers that "
            f"take over for each other, each at its static address and port {BEATS_PORT}. Give it twice for two "
            "machines of which one is the utility at a time.",
        ),
    ] = None,
    two_head_ends: Annotated[
        bool,
        typer.Option("--two-head-ends", help="Also make OUT/head-end-2, for a second head-end on another machine."),
    ] = False,
) -> None:
    """Register a town: fill the database, and make the token of every device.

    Writes OUT/MICROGRID/ with registry.json and gateway-tokens.json (for the gateway), devices.json (for its broker)
    and meter-tokens.json; OUT/head-end/devices.json (for the utility's broker); OUT/utility/utility-tokens.json.
    A controller that may take over for others also has their registries, and its broker knows their meters, which
    make their tokens for it from meter-secrets.json.

    Do it again after appending to the town file, such as a meter: it adds what is new and keeps every token. A town
    file that moves a meter is refused: it is compared with the database and the registry.json of each microgrid.
    Running brokers and the running utility load the additions by themselves.

    --out alone makes only the files, --database alone fills only the database: so the
    secrets of the town need not be on the machine where the database is. --config in place of --database keeps a
    password out of the list of processes.
    """
    if database is not None and config is not None:
        raise ConfigError("give --database or --config, not both")
    named, clock = "--database", wall_clock()
    if config is not None:
        settings, clock = load(config)
        database, named = settings.database, place_of_database(config)
    if database is None and out is None:
        raise ConfigError("give --database, --config or --out; see: commonwatt utility register --help")
    loaded = load_town(town)
    if database is not None and (fault := database_fault(database)):
        raise ConfigError(f"--database: {fault}")
    if out is not None:
        # Before the database is changed.
        refuse_moved(loaded, out, accounts_are_dated=database is not None)
        refuse_lost(loaded, out)
    _fill(loaded, clock, database, named, out, beats or (), two_head_ends=two_head_ends)


def _fill(
    loaded: Town,
    clock: Clock,
    database: str | None,
    named: str,
    out: Path | None,
    beats: Sequence[str],
    *,
    two_head_ends: bool,
) -> None:
    """Fill the database, make the files, and say what was made."""
    told = [f"{counted(len(loaded.microgrids), 'microgrid')} and {counted(len(loaded.meters), 'meter')} registered"]
    accounts = None
    if database is not None:
        now = int(clock.now())
        with opened(database, create=True, named=named) as filled, filled.writes.begin() as connection:
            added = fill_registry(connection, loaded, now)
            accounts = accounts_at(connection, now) if out is not None else None
        told.append(f", of them new: {added.new_controllers} and {added.new_meters}")
    if out is not None:
        with progress_bar() as progress:
            shown = partial(progress.track, description="enrolling")
            tokens = enrol(loaded, out, shown, accounts, two_head_ends=two_head_ends)
        told.append(f"; {counted(tokens, 'new token')} in {out}")
        told += _beating(loaded, out, beats)
    typer.echo("".join(told))


def _beating(town: Town, out: Path, beats: Sequence[str]) -> list[str]:
    """Write the files of cliques, if the utility receives beats; return what was made, for people."""
    if not beats:
        return []
    addresses = {name: f"{one.address}:{BEATS_PORT}" for name, one in town.microgrids.items()}
    written = write_clique_files(town, out, addresses | {UTILITY: beats[0]}, beats[1:])
    with alone(out):
        write_revoked_list(out, int(wall_clock().now()))
    return [f"; {counted(len(written), 'clique file')}"]


@app.command()
def dump(
    config: ConfigOption,
    start: Annotated[int, time_option(f"First moment, whole quarters: {LOCAL_FORMS}.")] = 0,
    end: Annotated[int, time_option("The moment after the last.")] = MAX_EPOCH,
) -> None:
    """Write every joined block and every event as JSON lines, for comparison with meters and gateways.

    One line each, such as {"kind": "block", "meter": "10001", "type": 3, "quarter": 1988888, "values": [...],
    "quality": "22...", "extras": []}. Blocks come by quarter: those that begin in [START, END).
    """
    with from_file(config) as (database, _):
        quarters = -(-start // QUARTER_S), -(-end // QUARTER_S) - 1
        lines = chain(
            chain.from_iterable(dumps.block_lines(blocks) for blocks in reads.all_blocks(database, *quarters)),
            dumps.event_lines(reads.all_events(database, start, end)),
        )
        for line in lines:
            sys.stdout.write(line + "\n")
