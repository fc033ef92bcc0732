"""``commonwatt utility migrate``, ``recover``, ``backup``, ``restore``: what a person does to the whole database."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from commonwatt.cli.tables import show
from commonwatt.model.exceptions import ConfigError, StoreError
from commonwatt.runtime.interrupts import stop_told
from commonwatt.runtime.service import errors_reported, flowing
from utility.cli.options import ConfigOption, load, opened, place_of_database
from utility.store.backup.backup import backup, restore
from utility.store.backup.restore import command_line
from utility.store.backup.sqlite import Tell
from utility.store.database import new_store_id, sqlite_path
from utility.store.recovery import recover

app = typer.Typer()

_AS_IT_WAS = "stopped; the database is as it was"


@app.command()
@flowing
def migrate(
    config: ConfigOption,
    new_store: Annotated[
        bool, typer.Option("--new-store", help="Give it a new store id: every gateway sends its backup again.")
    ] = False,
) -> None:
    """Make the database, or bring it up to date, and say from which schema to which; `run` does the same at its start.

    After a copy of an SQLite file, or a server's own physical backup, was put back by hand, use --new-store and start
    the service again: then the gateways send once more what the copy does not have. `commonwatt utility restore` does
    that by itself.
    """
    with errors_reported():
        settings, _ = load(config)
        with opened(settings.database, create=True, named=place_of_database(config)) as database:
            if new_store:
                with database.writes.begin() as connection:
                    store_id = new_store_id(connection)
            else:
                store_id = database.store_id
            before, schema = database.schema
        if before is None:
            done = f"the database is made, with schema {schema}"
        elif before != schema:
            done = f"the database is brought from schema {before} to {schema}"
        else:
            done = f"the database is up to date, with schema {schema}"
        typer.echo(f"{done}; its store is {store_id:x}")


@app.command("recover")
@flowing
def recovery_command(config: ConfigOption) -> None:
    """Replace a damaged SQLite database by a new one with all that can be read and is sound; stop the service first.

    The damaged file is quarantined beside the new one, under a name with the date; the newest three are kept. Start the
    service afterwards: the gateways send again what they have, and the gap finder asks for the rest. Should meters be
    missing, register the town again.
    """
    with errors_reported():
        settings, clock = load(config)
        path = sqlite_path(settings.database)
        if path is None:
            raise ConfigError(
                "database: only an SQLite file can be recovered; put back a backup with: "
                f"{command_line(config, 'restore', 'BACKUP', '--replace')}"
            )
        with stop_told(_AS_IT_WAS):
            done = recover(path, int(clock.now()))
        show("recovered rows", done.table(), ("table", "taken over", "damaged"))
        for what in done.unreadable:
            typer.echo(what)
        kept = (
            f"the damaged database is kept as {done.quarantined}"
            if done.quarantined
            else "the recovery begun before is finished"
        )
        typer.echo(
            f"{kept}; start the service again: the gateways send their backups, and what is missing is asked for"
        )


@app.command("backup")
@flowing
def backup_command(
    file: Annotated[Path, typer.Argument(help="The file to write; must not be there yet.")], config: ConfigOption
) -> None:
    """Write a backup of the whole database; the service may go on meanwhile.

    All of it is of one moment. Before it gets its name it is looked at whole, as `restore` does it: what is there under
    that name can be put back. Damaged parts are in it as they are, and told: then it ends with 1.
    Of a PostgreSQL it is an archive of pg_dump's custom format, made by the server's client programs, with the tables
    of the utility. What others have in that database is not in it, nor are roles and grants. Tokens and settings are
    other files, to be kept as well.
    """
    with errors_reported():
        settings, _ = load(config)
        with stop_told(f"stopped; there is no {file}, and the database is as it was"), _progress("backup") as tell:
            damaged = backup(settings.database, file, config, tell)
        size = file.stat().st_size
        again = command_line(config, "restore", file)
        typer.echo(f"{file}: {size / 1e6:.1f} MB, checked; put back with: {again}")
        if damaged:
            raise StoreError(
                f"{damaged} of its parts are damaged, in the database itself or on the way here; everything else is in "
                f"the backup. Have the database looked through with: {command_line(config, 'dump')} > /dev/null "
                "(what is damaged is quarantined and asked for again), then make another"
            )


@app.command("restore")
@flowing
def restore_command(
    file: Annotated[Path, typer.Argument(help="A backup, made by `commonwatt utility backup`.")],
    config: ConfigOption,
    replace: Annotated[bool, typer.Option("--replace", help="Also where the database holds something.")] = False,
) -> None:
    """Put a backup back in the place of the database; stop the service first.

    The backup is looked at whole first; if it is none, or something ends the command, the database is as it was.
    It has a new store id afterwards, so that the gateways send again what was acknowledged since the backup
    was made, as far back as they keep it.

    An SQLite file that was there is kept beside it, as FILE.replaced-DATE; the newest three of those are kept.
    In a PostgreSQL only the utility's own tables are replaced, at once or not at all. What was granted on those tables
    and on the view `block` stays granted, but for grants on single columns; what was added to those tables is gone,
    such as indexes and triggers. Where others' views or tables depend on them, nothing is replaced, and those are
    named: drop them first, and make them again afterwards.
    """
    with errors_reported():
        settings, clock = load(config)
        with stop_told(_AS_IT_WAS), _progress("restore") as tell:
            quarantined = restore(settings.database, file, int(clock.now()), config, replace=replace, tell=tell)
        if quarantined is not None:
            typer.echo(f"what was there is kept as {quarantined}")
        typer.echo("put back, under a new store id; start the service again: the gateways send what came since")


@contextmanager
def _progress(what: str) -> Iterator[Tell]:
    """Show a person how far it is."""
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
