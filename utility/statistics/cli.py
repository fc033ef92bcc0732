"""``commonwatt statistics``: usage and projections (U6); and ``commonwatt tariff`` with its preview (C1)."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from commonwatt.cli.options import show
from commonwatt.model.calendar import month_before, month_of
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.text import counted, line_of
from commonwatt.model.units import QUARTER_S
from utility.billing.bill import steps_of
from utility.billing.preview import BillChange, sentences
from utility.jobs.plans import HERE, Period
from utility.jobs.store import Turn
from utility.statistics.api import previewed_year
from utility.statistics.jobs import take_in
from utility.statistics.months import Month
from utility.statistics.store.usage import mark_settled
from utility.tariffs.cli import FileArgument, app
from utility.tariffs.tariff import read_tariff
from utility.webkit.cli import Commands, ConfigOption, day_option, from_file, load

__all__ = ["app"]

statistics_app = Commands(help="Usage by month, quarter, year and five years, and what may come.", no_args_is_help=True)


@statistics_app.command()
def run(
    config: ConfigOption,
    first: Annotated[
        str | None, typer.Option("--from", help="Take this day and later ones in again; days of UTC.")
    ] = None,
    last: Annotated[str | None, typer.Option("--to", help="The last of these days.")] = None,
) -> None:
    """Take in now what was settled and is not in the statistics yet; the service does the same every hour."""
    months: set[Month] = set()

    with from_file(config) as (database, clock):
        now = int(clock.now())
        if first is not None:
            with database.writes.begin() as connection:
                until = now // 86_400 if last is None else day_option("--to", last)
                mark_settled(connection, day_option("--from", first), until)
        elif last is not None:
            raise ConfigError("--to: give --from too")
        turn = Turn(job="statistics", period=Period(start=now, end=now, name="now"), attempt=1, now=now)
        asyncio.run(take_in(database, HERE, turn, tell=months.add))
    typer.echo(f"{counted(len(months), 'month')} computed")


@app.command("preview")
def preview_command(
    file: FileArgument,
    config: ConfigOption,
    month: Annotated[str | None, typer.Option(help="The last of up to twelve months, such as 2026-10.")] = None,
    out: Annotated[Path | None, typer.Option("--csv", help="Also write every account to this file.")] = None,
) -> None:
    """Show what a tariff would have made of a year's bills.

    It is computed for every account from settled quarter-hours, in place of the published versions of its name.
    """
    tariff = read_tariff(file)
    settings = load(config)[0]
    with from_file(config) as (database, clock):
        wanted = month or month_before(month_of(int(clock.now()) // QUARTER_S, tariff.zone))
        year = previewed_year(database, tariff, wanted, settings.billing.tariff)
    changes = year.changes
    if out is not None:
        with out.open("w", newline="", encoding="utf-8") as table:
            table.write(line_of(("account", "before_dollars", "after_dollars", "difference_dollars")))
            table.writelines(line_of((c.account, c.before, c.after, c.difference)) for c in changes)
    typer.echo("\n".join(sentences(year)))
    columns = ("account", "before", "after", "difference")
    show("winners", [_row(change) for change in changes[:10] if change.difference < 0], columns)
    show("losers", [_row(change) for change in changes[::-1][:10] if change.difference > 0], columns)
    typer.echo(_bars(changes))


def _row(change: BillChange) -> dict[str, object]:
    return {
        "account": change.account,
        "before": change.before,
        "after": change.after,
        "difference": f"{change.difference:+}",
    }


def _bars(changes: Sequence[BillChange]) -> str:
    rows = steps_of([int(100 * each.difference) for each in changes])
    most = max((count for *_, count in rows), default=1)
    lines = [
        f"{low:+,} to {high:+,}".rjust(24) + f" {count:6} {'#' * -(-40 * count // most)}" for low, high, count in rows
    ]
    return "\n".join(["dollars more", *lines])
