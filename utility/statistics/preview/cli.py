"""``commonwatt tariff`` with its preview: what a tariff would have made of a month's bills (C1, docs/billing.md)."""

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import typer

from commonwatt.cli.tables import show
from commonwatt.model.csv_text import line_of
from commonwatt.model.time.local_calendar import month_before, month_of
from commonwatt.model.units import QUARTER_S
from commonwatt.model.words import counted
from utility.billing.decisions import previewed
from utility.billing.preview import Change, histogram
from utility.statistics.decisions import outlook
from utility.tariffs.cli import FileArgument, app
from utility.tariffs.tariff import read_tariff
from utility.webkit.cli.options import ConfigOption, from_file, load

__all__ = ["app"]


@app.command("preview")
def preview_command(
    file: FileArgument,
    config: ConfigOption,
    month: Annotated[str | None, typer.Option(help="The local month, such as 2026-10; else the last one.")] = None,
    out: Annotated[Path | None, typer.Option("--csv", help="Also write every account to this file.")] = None,
) -> None:
    """Show what a tariff would have made of a month's bills, and the projected revenue of the next month.

    It is computed for every account from settled quarter-hours, in place of the published versions of its name.
    """
    tariff = read_tariff(file)
    settings = load(config)[0]
    with from_file(config) as (database, clock):
        wanted = month or month_before(month_of(int(clock.now()) // QUARTER_S, tariff.zone))
        changes = previewed(database, tariff, wanted, settings.billing.tariff)
        ahead = outlook(database, tariff, settings.billing.tariff, int(clock.now()))
    if out is not None:
        with out.open("w", newline="", encoding="utf-8") as table:
            table.write(line_of(("account", "before_dollars", "after_dollars", "difference_dollars")))
            table.writelines(line_of((c.account, c.before, c.after, c.difference)) for c in changes)
    typer.echo(_summary(changes, wanted))
    for line in ahead.words if ahead is not None else ["next month: no projection, since no month's usage is known"]:
        typer.echo(line)
    ranked = sorted(changes, key=lambda change: change.difference)
    columns = ("account", "before", "after", "difference")
    show("winners", [_row(change) for change in ranked[:10] if change.difference < 0], columns)
    show("losers", [_row(change) for change in ranked[::-1][:10] if change.difference > 0], columns)
    typer.echo(_bars(changes))


def _row(change: Change) -> dict[str, object]:
    return {
        "account": change.account,
        "before": change.before,
        "after": change.after,
        "difference": f"{change.difference:+}",
    }


def _summary(changes: Sequence[Change], month: str) -> str:
    winners, losers = (sum(sign * change.difference > 0 for change in changes) for sign in (-1, 1))
    whole = sum((change.difference for change in changes), Decimal(0))
    return (
        f"{month}, {counted(len(changes), 'account')}: {winners} would pay less, {losers} more, "
        f"{len(changes) - winners - losers} the same; all together {whole:+} dollars"
    )


def _bars(changes: Sequence[Change]) -> str:
    rows = histogram(changes)
    most = max(1, *(count for _, count in rows))
    lines = [f"{label:>12} {count:6} {'#' * -(-40 * count // most)}" for label, count in rows]
    return "\n".join(["dollars more", *lines])
