"""``commonwatt towns``: many towns, each a database of its own; nothing spans towns in a transaction."""

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Annotated, Any
from urllib.request import ProxyHandler, build_opener

import typer

from commonwatt.cli.options import JsonOption
from commonwatt.cli.tables import show
from commonwatt.config.files import check_table, place_in
from commonwatt.model.exceptions import CommonwattError, ConfigError, StoreError
from commonwatt.runtime.interrupts import stop_told
from utility.database.engines import MAX_OVERFLOW
from utility.towns import store as store
from utility.towns.table import Town, TownsFile, load_towns, save_towns
from utility.webkit.cli.options import Commands, opened

app = Commands(
    no_args_is_help=True,
    help="Many towns: list, migrate and move their databases; one table at the office has them all (docs/cluster.md).",
)

TownsOption = Annotated[Path, typer.Option("--towns", help="The table of the towns (TOML).")]
NameArgument = Annotated[str, typer.Argument(help="The town's name in the table.")]
_TABLE = Path("towns.toml")

CONNECTIONS = 5 + MAX_OVERFLOW  # most connections of a utility
NO_ANSWER = "no answer"
_ANSWER_S = 5.0  # real seconds within which a utility must answer
_MOST_BYTES = 65_536  # of an answer
_AT_ONCE = 16  # towns that are asked at the same time


@app.command()
def add(
    name: NameArgument,
    database: Annotated[str, typer.Option("--database", help="The URL of the town's database, of its own.")],
    head_end: Annotated[list[str] | None, typer.Option("--head-end", help="A head-end broker, HOST:PORT.")] = None,
    utility: Annotated[
        list[str] | None, typer.Option("--utility", help="Where a utility answers, as https://u1.example:8080.")
    ] = None,
    stanza: Annotated[str | None, typer.Option("--stanza", help="The server's name in pgBackRest's settings.")] = None,
    files: Annotated[
        Path | None, typer.Option("--files", help="The folder with `archive`, `exports` and `releases`.")
    ] = None,
    towns: TownsOption = _TABLE,
) -> None:
    """Add a town to the table, after a check of its database.

    The database must be empty or Commonwatt's, on a PostgreSQL server that answers, and no other town's. A warning says
    when the server has too few connections for the utilities of all its towns.

    Example: towns add north --database "postgresql+psycopg://commonwatt@db1/north?sslmode=verify-full&passfile=pw"
    --head-end h1.example:8883 --utility https://u1.example:8080 --stanza commonwatt
    """
    listed = load_towns(towns) if towns.exists() else {}
    if name in listed:
        raise ConfigError(f"{towns}: {name} is there already; change its row there, or move it with: towns move")
    own_files = None if files is None else files.absolute()
    given = {"head_ends": head_end, "utilities": utility, "stanza": stanza, "files": own_files}
    row = {key: value for key, value in given.items() if value} | {"database": database}
    found = check_table(partial(place_in, "", ""), TownsFile, {"towns": {name: row}}).towns[name]
    place, schema = store.look(database), store.schema_of(database)
    needed = CONNECTIONS * max(1, len(found.utilities))
    for other, town in listed.items():
        try:
            its_server = store.look(town.database).server
        except CommonwattError as error:
            typer.echo(f"warning: {other} can't be compared: {error}", err=True)
            continue
        if its_server != place.server:
            continue
        if store.name_of(town.database) == store.name_of(database):
            raise ConfigError(f"{store.where(database)}: is the database of {other}; give {name} its own")
        needed += CONNECTIONS * max(1, len(town.utilities))
    save_towns(towns, listed | {name: found})
    state = "empty; make its tables with: towns migrate" if schema is None else f"of schema {schema}"
    typer.echo(f"{name} is added; its database is {state}")
    if needed > place.connections:
        typer.echo(
            f"warning: the utilities of this server's towns may need {needed} connections, {CONNECTIONS} each, but it "
            f"accepts {place.connections}: raise max_connections, or put pgbouncer before it in session mode",
            err=True,
        )


@app.command("list")
def list_command(towns: TownsOption = _TABLE, as_json: JsonOption = False) -> None:
    """List the towns: schema and size of each database, release of each utility, and which of them is active.

    Databases and utilities are asked directly; `no answer` stands where there is none. For a utility whose certificate
    our own authority signed, set SSL_CERT_FILE to the authority's file.
    """
    _print(load_towns(towns), as_json=as_json)


@app.command()
def migrate(towns: TownsOption = _TABLE) -> None:
    """Bring the databases of all towns up to date, one after the other, in the order of the table.

    Stops at the first error, with exit code 1, and says which towns are done and which are not; the towns before it
    stay up to date. Repeat it when the error is corrected. Ends with the list of the towns, their schemas and releases.
    """
    listed = load_towns(towns)
    done: list[str] = []
    try:
        with stop_told("stopped; run it again to migrate the rest"):
            for name, town in listed.items():
                with opened(town.database, create=True, named=f"towns.{name}.database") as database:
                    before, schema = database.schema
                done.append(name)
                change = "" if before == schema else f", before {before or 'empty'}"
                typer.echo(f"{name}: up to date, schema {schema}{change} ({len(done)} of {len(listed)})", err=True)
    except CommonwattError as error:
        rest = ", ".join(name for name in listed if name not in done)
        raise StoreError(
            f"{error}\nup to date: {', '.join(done) or 'none'}; not: {rest}, which go on with their present release"
        ) from error
    finally:
        _print(listed)


@app.command()
def move(
    name: NameArgument,
    to: Annotated[str, typer.Option("--to", help="The URL of the database at its new server.")] = "",
    back: Annotated[bool, typer.Option("--back", help="Give the move up: open the old place again.")] = False,
    towns: TownsOption = _TABLE,
) -> None:
    """Move a town's database to another server, by a restore from pgBackRest; gateways keep the backlog meanwhile.

    The first call closes the old place, so that nothing more is acknowledged there, waits until all of its log is in
    the archive, and prints the command of the restore for the new machine; its exit code is 1, as the move is not
    finished. Restore, start the new server, and call it again: it compares both places, writes the new one into the
    table, opens it, and says which files to change. An interrupted move is continued by the same call.

    Until the table is written, --back opens the old place again.

    Example: towns move north --to "postgresql+psycopg://commonwatt@db2/north?sslmode=verify-full&passfile=pw"
    """
    listed = load_towns(towns)
    if name not in listed:
        raise ConfigError(f"{towns}: has no town {name}; it has: {', '.join(listed) or 'none'}")
    town = listed[name]
    if back == bool(to):
        raise ConfigError("give --to URL, or --back")
    if back or to == town.database:
        if store.look(town.database).is_open:
            raise ConfigError(f"{name}: its place, {store.where(town.database)}, is open; there is nothing to do")
        store.reopen(town.database)
        typer.echo(f"{name} is open at {store.where(town.database)}, its place in {towns}")
        return
    row = town.model_dump(exclude={"stanza"}, exclude_defaults=True) | {"database": to}
    changed = check_table(partial(place_in, "", ""), Town, row)
    with stop_told(f"stopped; continue by the same command, or give the move up with: towns move {name} --back"):
        _move(name, town, to)
        save_towns(towns, listed | {name: changed})
        store.reopen(to)
    typer.echo(
        f"{name} is moved: {towns} has its new place, which is open. In the utility.toml of each of its utilities "
        f"({', '.join(town.utilities) or 'none is listed'}) set database to the URL of {store.where(to)}, and restart "
        f"it. Then set up backups of the new server under a stanza of its own, and name the stanza in {towns}"
    )


def _move(name: str, town: Town, to: str) -> None:
    """Close the old place of a town, and compare the new one with it.

    Raises:
        CommonwattError: The new place is not there yet, or not as the old one was; says what to do.
    """
    old, new = town.database, store.name_of(to)
    if town.stanza is None:
        raise ConfigError(f"towns.{name}.stanza: is missing; it is needed to restore the town")
    if new != store.name_of(old):
        raise ConfigError(f"--to: a restore keeps the name of the database, {store.name_of(old)}; this one is {new}")
    place = store.look(old)
    comment = place.closed
    if comment is None and not place.archives:
        raise ConfigError(
            f"{store.where(old)}: the server archives no log (docs/stores.md), or its user lacks a right; "
            "give it as the administrator: GRANT EXECUTE ON FUNCTION pg_switch_wal TO USER"
        )
    if comment is None:
        typer.echo(f"{name}: closing {store.where(old)}; from now on gateways keep their data", err=True)
        comment = store.close(old)
    try:
        restored = store.look(to)
        missing = "" if restored.closed == comment else "it is no copy of the closed place with all of its log"
        if restored.server == place.server:
            raise ConfigError(f"--to: {store.where(to)} is on the old server")
        if restored.recovers:
            missing = "it still replays its log"
    except StoreError as error:
        missing = str(error)
    if missing:
        typer.echo(f"{name}: waiting until the log of {store.where(old)} is in the archive", err=True)
        end = store.archive(old)
        raise StoreError(
            f"{name} is not moved yet: {store.where(to)}: {missing}. On the new machine, with the same "
            "pgbackrest.conf, restore, start the server, and give this command again:\n"
            f"sudo -u postgres pgbackrest --stanza={town.stanza} --db-include={new} --type=lsn --target={end} "
            "--target-action=promote --archive-mode=off restore"
        )
    if found := store.differences(to, comment):
        raise StoreError(
            f"{name} is not moved: {store.where(to)} differs from the old place: {'; '.join(found)}. It stays closed; "
            f"restore it again, or give the move up with: towns move {name} --back"
        )
    typer.echo(f"{name}: {store.where(to)} has all of the old place", err=True)


def _print(towns: Mapping[str, Town], *, as_json: bool = False) -> None:
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        rows = list(threads.map(_row, towns, towns.values()))
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
    else:
        show("towns", rows, [*rows[0]] if rows else ())


def _row(name: str, town: Town) -> dict[str, object]:
    megabytes = None
    try:
        megabytes = (store.look(town.database).size or 0) // 1_000_000
        schema = store.schema_of(town.database)
    except CommonwattError:
        schema = NO_ANSWER
    answers = {base: _health(base) for base in town.utilities}
    return {
        "town": name,
        "database": store.where(town.database),
        "schema": schema,
        "megabytes": megabytes,
        "releases": ", ".join(str(answer.get("version", NO_ANSWER)) for answer in answers.values()),
        # A utility that does not say whether it is active has no other one beside it.
        "active": ", ".join(base for base, answer in answers.items() if answer and answer.get("active", True)),
    }


def _health(base: str) -> dict[str, Any]:
    """Return what a utility says of itself; empty: it does not answer."""
    try:
        with build_opener(ProxyHandler({})).open(f"{base}/health", timeout=_ANSWER_S) as answer:
            found = json.loads(answer.read(_MOST_BYTES))
    except (OSError, HTTPException, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
