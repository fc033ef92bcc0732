"""``commonwatt utility migrate``, ``recover``, ``backup``, ``restore``: commands on the whole database."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from commonwatt.cli.tables import show
from commonwatt.config.utility import PGBACKREST, UtilitySettings
from commonwatt.model.exceptions import ConfigError, StoreError
from commonwatt.runtime.interrupts import stop_told
from utility.assembly.backup.backup import Tell, backup, command_line
from utility.assembly.backup.restore import restore
from utility.assembly.recovery.recovery import recover
from utility.database.database import new_store_id, sqlite_path
from utility.webkit.cli.options import Commands, ConfigOption, load, opened, place_of_database

app = Commands()

_UNCHANGED = "stopped; the database is unchanged"


@app.command()
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


@app.command("recover")
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


@app.command("backup")
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
    with stop_told(f"stopped; there is no {file}, and the database is unchanged"), _progress("backup") as tell:
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


@app.command("restore")
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
    with stop_told(_UNCHANGED), _progress("restore") as tell:
        quarantined = restore(path, file, int(clock.now()), config, replace=replace, tell=tell)
    if quarantined is not None:
        typer.echo(f"what was there is kept as {quarantined}")
    typer.echo("restored, under a new store id; start the service again: the gateways send newer data")


def _file(settings: UtilitySettings) -> Path:
    path = sqlite_path(settings.database)
    if path is None:
        raise ConfigError(f"database: this command is for an SQLite file; {PGBACKREST}")
    return path


@contextmanager
def _progress(what: str) -> Iterator[Tell]:
    """Show the progress on the terminal."""
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
