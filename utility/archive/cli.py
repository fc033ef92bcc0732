"""``commonwatt utility archive``: months of readings in files."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from commonwatt.cli.tables import show
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.time.local_calendar import parse_month
from commonwatt.model.words import counted
from commonwatt.runtime.service import EXIT_FAILED
from utility.archive.blocks import month_text
from utility.archive.store.archive import Archive
from utility.archive.store.months import IN_USE, months
from utility.database.database import Database
from utility.database.postgres.partitions import first_quarter
from utility.readings.store.retention import newest_quarter
from utility.webkit.cli.options import Commands, ConfigOption, from_file, load

app = Commands(help="Months of readings in files, out of the database; everything reads both.", no_args_is_help=True)

MonthArgument = Annotated[str, typer.Argument(help="The month (UTC), such as 2026-11.")]


@contextmanager
def _opened(config: Path) -> Iterator[tuple[Archive, Database]]:
    settings, clock = load(config)
    if settings.archive is None:
        raise ConfigError(f"{config}: has no folder of the archive; give one as: archive")
    with from_file(config) as (database, _):
        yield Archive(database, settings.archive, int(clock.now())), database


@app.command(name="list")
def list_(config: ConfigOption) -> None:
    """List the months that have a file, with blocks and bytes, and what is wrong with a file."""
    with from_file(config) as (database, _):
        found = database.read(months)
    rows: list[dict[str, object]] = [
        {
            "month": month_text(one.first_quarter),
            "state": one.state,
            "blocks": f"{one.rows:,}",
            "bytes": f"{one.size:,}",
            "bytes_a_reading": f"{one.size / (60 * one.rows):.2f}" if one.rows else "",
            "file": one.path,
            "trouble": one.trouble,
        }
        for one in found
    ]
    show("months in files", rows, ("month", "state", "blocks", "bytes", "bytes_a_reading", "file", "trouble"))


@app.command()
def write(month: MonthArgument, config: ConfigOption) -> None:
    """Bring a whole month to its file now; after a stop, the same command goes on.

    The file is compared with the database, block by block, before the blocks leave the database.
    """
    first = first_quarter(parse_month(month))
    with _opened(config) as (archive, database):
        newest = database.read(newest_quarter)
        if newest is None or month_text(newest) <= month:
            raise ConfigError(f"{month}: is not over, or newer than the newest reading")
        typer.echo(archive.write_month(first))


@app.command()
def check(config: ConfigOption, month: Annotated[str, typer.Argument(help="Only this month.")] = "") -> None:
    """Read each file whole, and check each block's checksum; ends with code 1 if one is missing or damaged."""
    if month:
        parse_month(month)
    with _opened(config) as (archive, database):
        found = {
            month_text(one.first_quarter): archive.check(one)
            for one in database.read(months)
            if one.state in IN_USE and month in ("", month_text(one.first_quarter))
        }
    for name, trouble in found.items():
        typer.echo(f"{name}: {trouble or 'all blocks are sound'}")
    if any(found.values()):
        raise typer.Exit(EXIT_FAILED)


@app.command()
def restore(month: MonthArgument, config: ConfigOption) -> None:
    """Bring a month back into the database, and delete its file; it stays there until `archive write`."""
    with _opened(config) as (archive, _):
        made = archive.restore(first_quarter(parse_month(month)))
    typer.echo(f"{month}: {counted(made, 'block')} back in the database")
