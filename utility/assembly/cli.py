"""``commonwatt utility``: register a town, run the service, print data; more in ``commands``, ``views``, ``upkeep``."""

import sys
from collections.abc import Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track

from commonwatt.codec import dumps
from commonwatt.config.database_url import database_fault
from commonwatt.identity.enrolment import alone
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.time.times import LOCAL_FORMS
from commonwatt.model.units import MAX_EPOCH, QUARTER_S
from commonwatt.model.words import counted
from commonwatt.protocol.topics import UTILITY
from commonwatt.runtime.clock import Clock, wall_clock
from commonwatt.runtime.service import run_service
from commonwatt.town.cliques import BEATS_PORT, write_clique_files
from commonwatt.town.loading import load_town
from commonwatt.town.revocation import write_revoked_list
from commonwatt.town.town import Town
from utility.assembly import break_glass
from utility.assembly import upkeep as cli_upkeep
from utility.collection import cli as cli_collection
from utility.control.cli import gateway_commands
from utility.control.cli import storm as cli_storm
from utility.database.database import open_database
from utility.overview import cli as cli_jobs
from utility.people.cli import people as cli_people
from utility.readings.cli import quarantine as cli_quarantine
from utility.readings.store import reads
from utility.registry.store.accounts import accounts_at
from utility.registry.store.enrolment import enrol, refuse_lost, refuse_moved
from utility.registry.store.registration import fill_registry
from utility.webkit.cli.options import Commands, ConfigOption, from_file, load, opened, place_of_database, time_option

app = Commands(
    help="The utility: stores, completes, counts and shows what the gateways relay.",
    no_args_is_help=True,
)
for module in (gateway_commands, cli_collection, cli_upkeep, break_glass):
    app.add_typer(module.app)
app.add_typer(cli_quarantine.quarantine_app)
app.add_typer(cli_storm.storm_app)
app.add_typer(cli_jobs.app, name="jobs")
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
    from utility.assembly.doctor import token_of
    from utility.assembly.service import Service

    token = token_of(settings)
    if settings.name_in_cluster is not None:
        from utility.assembly.standby import Standby

        run_service(Standby(settings, clock, token, place_of_database(config)).run, lives_long=False)
        return
    database = open_database(settings.database, create=True, check=True, named=place_of_database(config))
    try:
        run_service(Service(settings, clock, database, token).run, lives_long=False)
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
        shown = partial(track, description="enrolling", console=Console(stderr=True), transient=True)
        told.append(
            f"; {counted(enrol(loaded, out, shown, accounts, two_head_ends=two_head_ends), 'new token')} in {out}"
        )
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
