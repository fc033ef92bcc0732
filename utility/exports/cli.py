"""``commonwatt export``: readings, events, settled quarter-hours and bills as files for other programs."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO, TypeAlias, cast

import typer

from commonwatt.cli.options import shown_progress
from commonwatt.model.calendar import LOCAL_FORMS
from commonwatt.model.exceptions import ConfigError, StoreError
from commonwatt.model.text import counted
from commonwatt.model.units import EpochSeconds
from commonwatt.runtime.clock import Clock
from commonwatt.runtime.files import replace_file
from commonwatt.runtime.service import keep_freed_memory, stop_told
from utility.database.database import Database
from utility.database.town_zone import town_zone
from utility.exports.customer import CustomerFormat, FileSource, pieces_of
from utility.exports.selection import ExportSelection, Resolution
from utility.exports.store.exports import (
    AskedExport,
    Export,
    account_quarters,
    bills_export,
    events_export,
    readings_export,
    settled_export,
)
from utility.exports.store.files import full_disk_explained, write_files
from utility.exports.writers import Format, make_writer, require
from utility.ledger.store import exported
from utility.webkit.cli import Commands, ConfigOption, from_file, load, time_option

app = Commands(
    help="Export stored data as Parquet or CSV, by month; each file is whole or not there.", no_args_is_help=True
)

FromOption = Annotated[int, time_option(f"The first moment: {LOCAL_FORMS}.", "--from")]
ToOption = Annotated[int, time_option("The moment after the last, in the same forms.", "--to")]
FormatOption = Annotated[Format, typer.Option("--format", help="The files' format.")]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", help="The folder for the files, new or of the same export; without it, to standard output."),
]
MeterOption = Annotated[list[str] | None, typer.Option("--meter", help="Only this meter.")]
MicrogridOption = Annotated[list[str] | None, typer.Option("--microgrid", help="Only meters of this microgrid.")]
AccountOption = Annotated[
    list[int] | None, typer.Option("--account", help="Only what was of this account: of its meters, while it had them.")
]
ResolutionOption = Annotated[
    Resolution, typer.Option("--resolution", help="The interval of a row; `1d` is the town's local day.")
]
_Make: TypeAlias = Callable[[Database, AskedExport], Export]


@app.command()
def readings(
    config: ConfigOption,
    start: FromOption,
    end: ToOption,
    out: OutOption = None,
    form: FormatOption = Format.PARQUET,
    meter: MeterOption = None,
    microgrid: MicrogridOption = None,
    account: AccountOption = None,
    resolution: ResolutionOption = Resolution.QUARTER,
) -> None:
    """Export readings: a file for each local month, at 15 s for each local day.

    Sums are of the slots that have a reading; `missing_slots` says how many have none. Levels, such as a battery's
    `stored`, have their last, lowest and highest value, never a sum. The columns are explained in docs/exports.md.

    A file has its final name only when it is complete. Stopped, killed or out of disk space: give the same command
    again; it writes all files again. Files of the same stored data are equal byte for byte.

    Examples: `export readings --from 2026-11 --to 2026-12 --out november`, `export readings --from 2026-11-01 --to
    2026-11-02 --meter 10001 --resolution 15s --format csv > day.csv`.
    """
    _run(config, readings_export, (start, end), (meter, microgrid, account), resolution, out, form)


@app.command()
def events(
    config: ConfigOption,
    start: FromOption,
    end: ToOption,
    out: OutOption = None,
    form: FormatOption = Format.PARQUET,
    meter: MeterOption = None,
    microgrid: MicrogridOption = None,
    account: AccountOption = None,
) -> None:
    """Export the meters' events, such as being off the grid: a file for each local month.

    Example: `export events --from 2026-11 --to 2026-12 --microgrid r001 --format csv --out events`.
    """
    _run(config, events_export, (start, end), (meter, microgrid, account), Resolution.QUARTER, out, form)


@app.command()
def settled(
    config: ConfigOption,
    start: FromOption,
    end: ToOption,
    out: OutOption = None,
    form: FormatOption = Format.PARQUET,
    meter: MeterOption = None,
    microgrid: MicrogridOption = None,
    account: AccountOption = None,
    resolution: ResolutionOption = Resolution.QUARTER,
) -> None:
    """Export settled quarter-hours, or their sums: what each meter exchanged with the town and with its microgrid.

    A file for each local month, with quality and version. A file with provisional rows is written again by the next
    run of the same command.

    Example: `export settled --from 2026-11 --to 2026-12 --resolution 1d --account 7 --format csv`.
    """
    _run(config, settled_export, (start, end), (meter, microgrid, account), resolution, out, form)


@app.command()
def bills(
    config: ConfigOption,
    start: FromOption,
    end: ToOption,
    out: OutOption = None,
    form: FormatOption = Format.PARQUET,
    account: AccountOption = None,
) -> None:
    """Export the lines of issued bills: a file for each local month that has an issued run.

    Example: `export bills --from 2026-01 --to 2027-01 --account 7 --format csv > bills.csv`.
    """
    _run(config, bills_export, (start, end), (None, None, account), Resolution.QUARTER, out, form)


@app.command()
def account(
    number: Annotated[int, typer.Argument(help="The account's number.")],
    config: ConfigOption,
    start: FromOption,
    end: ToOption,
    out: Annotated[
        Path | None, typer.Option("--out", help="The file to write, replaced if there is one; else standard output.")
    ] = None,
    form: Annotated[
        CustomerFormat, typer.Option("--format", help="Green Button (ESPI) XML, or CSV for a spreadsheet.")
    ] = CustomerFormat.GREEN_BUTTON,
    of: Annotated[
        FileSource, typer.Option("--of", help="Settled quarter-hours, as bills have them, or sums of readings.")
    ] = FileSource.SETTLED,
) -> None:
    """Export the quarter-hours of one account for its customer: energy delivered and received, with quality.

    Green Button is a feed with one MeterReading a direction, whose blocks are local days, in milliwatt-hours. The
    spreadsheet has local times with their offset, and kilowatt-hours with six decimals.
    Meters count from the move-in to the move-out, and an exchanged meter's successor follows it.

    Examples: `export account 7 --from 2026-11 --to 2026-12 --out november.xml`, `export account 7 --from 2026-11-01
    --to 2026-11-02 --format spreadsheet`.
    """
    asked = AskedExport(start=start, end=end, selection=ExportSelection(accounts=(number,)))
    with from_file(config) as (database, _):
        quarters = account_quarters(database, asked, settled=of is FileSource.SETTLED)
        zone = town_zone(database)
        content = "".join(pieces_of(quarters, form, f"{database.store_id:x}", zone)).encode()
    _write(out, content, f"account {number}")


@app.command()
def ledger(
    config: ConfigOption,
    month: Annotated[str, typer.Option("--month", help="The local month, such as 2026-11.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="The file to write, replaced if there is one; else standard output.")
    ] = None,
) -> None:
    """Export a month of the ledger as CSV, with the office's account codes; of a closed month always the same bytes.

    Example: `export ledger --month 2026-11 --out ledger.csv`.
    """
    with from_file(config) as (database, _):
        content = database.read(exported, month, load(config)[0].office.codes)
    _write(out, content, f"the ledger of {month}")


def _write(out: Path | None, content: bytes, what: str) -> None:
    if out is None:
        sys.stdout.buffer.write(content)
        return
    with full_disk_explained(out):
        replace_file(out, content)
    typer.echo(f"{out}: {what}, {len(content):,} bytes")


def _run(
    config: Path,
    make: _Make,
    times: tuple[EpochSeconds, EpochSeconds],
    selected: tuple[list[str] | None, list[str] | None, list[int] | None],
    resolution: Resolution,
    out: Path | None,
    form: Format,
) -> None:
    """Make an export and write it."""
    keep_freed_memory()
    require(form)
    if out is None and form is Format.PARQUET:
        raise ConfigError("--out: Parquet needs a folder; csv can go to standard output")
    meters, microgrids, accounts = selected
    selection = ExportSelection(meters=meters or (), microgrids=microgrids or (), accounts=accounts or ())
    asked = AskedExport(start=times[0], end=times[1], selection=selection, resolution=resolution)
    with from_file(config) as (database, clock):
        export = make(database, asked)
        if out is None:
            _write_out(export, form)
        else:
            _write_files(export, form, out, clock)
        if export.damaged():
            raise StoreError(
                f"{counted(export.damaged(), 'stored part')} damaged and quarantined; the gaps are asked for "
                "again by the running service. Export again when they are filled"
            )
        if export.left_out():
            raise StoreError(
                f"{counted(export.left_out(), 'event')} damaged and left out. After `commonwatt utility recover` "
                "(SQLite) or a restore of a backup the gateways send again what they still have; then export again"
            )


def _write_out(export: Export, form: Format) -> None:
    """Write all rows to standard output."""
    writer = make_writer(form, cast("BinaryIO", sys.stdout.buffer), export.table)
    for piece in export.pieces():
        for rows in export.rows(piece):
            writer.write(rows)
    writer.close()


def _write_files(export: Export, form: Format, out: Path, clock: Clock) -> None:
    """Write the files."""
    stopped = f"stopped; files that are whole stay in {out}, and the same command writes all of them again"
    with stop_told(stopped), _progress(export.most) as tell:
        done = write_files(export, form, out, int(clock.now()), tell)
    typer.echo(f"{counted(done.files, 'file')} with {counted(done.rows, 'row')} written to {out}")


@contextmanager
def _progress(most: int) -> Iterator[Callable[[str, int], None]]:
    """Show the progress on the terminal: the present file, and the rows so far of the most that there can be."""
    with shown_progress("export", most) as show:
        seen = 0

        def tell(name: str, rows: int) -> None:
            nonlocal seen
            seen += rows
            show(min(seen, most), what=f"{name}, {seen:,} rows")

        yield tell
