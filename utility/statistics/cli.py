"""``commonwatt statistics``: usage by month, quarter, year and five years, and projections (U6)."""

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from commonwatt.cli.dead_letter_options import JsonOption
from commonwatt.cli.tables import show
from commonwatt.model.csv_text import line_of
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.words import counted, moment
from commonwatt.runtime.service import flowing
from utility.jobs.calendar_periods import Period
from utility.jobs.store.job_leases import Turn
from utility.jobs.threads import HERE
from utility.statistics.jobs.statistics import take_in
from utility.statistics.months import Month, Span, month_number, month_text, span_around
from utility.statistics.store.usage import Scope
from utility.statistics.store.usage_due import mark_settled
from utility.statistics.store.usage_projection import Projectable, projection_view
from utility.statistics.store.usage_view import (
    as_cells,
    last_month,
    names_of,
    scope_of,
    subject_of,
    usage_history,
    usage_of_all,
)
from utility.statistics.words import COLUMNS, projected_words, tested_words
from utility.webkit.cli.listing import print_rows
from utility.webkit.cli.options import ConfigOption, day_option, from_file, reading

app = typer.Typer(help="Usage by month, quarter, year and five years, and what may come.", no_args_is_help=True)

_SHOWN = (
    "name",
    "period",
    "imported_kwh",
    "exported_kwh",
    "used_kwh",
    "self_sufficiency_percent",
    "use_known_percent",
    "peak_kw",
    "complete_percent",
)
_SCENARIO = ("scenario", "year", "used_kwh", "generated_kwh", "imported_kwh", "exported_kwh")


class Format(StrEnum):
    """The format of an exported file."""

    CSV = "csv"
    JSON = "json"


ScopeOption = Annotated[str, typer.Option("--of", help="account, microgrid, class or town.")]
SpanOption = Annotated[
    Span, typer.Option("--by", help="The length of a row; five_years: the five years until the month.")
]
MonthOption = Annotated[
    str | None, typer.Option("--month", help="A month of the period, such as 2026-10; else the last.")
]
NameOption = Annotated[
    str | None, typer.Option("--name", help="One subject only: 17, r001, residential; with its past.")
]


@app.command("list")
@flowing
def list_usage(
    config: ConfigOption,
    of: ScopeOption = "town",
    by: SpanOption = Span.MONTH,
    month: MonthOption = None,
    name: NameOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show usage, with how complete it is; `commonwatt statistics export` writes every column.

    Examples: `statistics list --of class`, `statistics list --of account --name 17 --by year`.
    """
    print_rows("usage", _cells(config, scope_of(of), by, month, name), _SHOWN, as_json=as_json)


@app.command()
@flowing
def export(
    config: ConfigOption,
    of: ScopeOption = "account",
    by: SpanOption = Span.MONTH,
    month: MonthOption = None,
    name: NameOption = None,
    form: Annotated[Format, typer.Option("--format", help="csv or json.")] = Format.CSV,
    out: Annotated[Path | None, typer.Option("--out", help="The file; else the standard output.")] = None,
) -> None:
    """Write usage with all columns as CSV or JSON. Docs: docs/statistics.md."""
    rows = _cells(config, scope_of(of), by, month, name)
    if out is None:
        _write(sys.stdout, rows, form)
        return
    with out.open("w", newline="", encoding="utf-8") as file:
        count = _write(file, rows, form)
    typer.echo(f"{out}: {counted(count, 'row')}")


@app.command()
@flowing
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


@app.command("projection")
@flowing
def show_projection(
    config: ConfigOption, of: ScopeOption = "town", name: NameOption = None, as_json: JsonOption = False
) -> None:
    """Show the projection of the next month with its band of 80 %, and five years as scenarios.

    The service makes it once a day; its method and how far to trust it: docs/statistics.md.
    """
    with reading(config) as (connection, _):
        scope = scope_of(of)
        some = None if name is None else [subject_of(connection, scope, name)]
        view = projection_view(connection, scope, some)
        names = names_of(connection, scope)
    if as_json:
        typer.echo(json.dumps(view, indent=1))
        return
    if not view:
        typer.echo("nothing is projected yet; the service projects once a day")
        return
    typer.echo(f"{month_text(view['month'])}, made {moment(view['made'])}")
    for row in view["rows"]:
        quantity = Projectable(row["quantity"])
        words = projected_words(row["low"], row["middle"], row["high"], is_money=quantity.is_money)
        subject = names.get(row["subject"], str(row["subject"]))
        typer.echo(f"{subject}: {quantity.name.lower()} {words}")
    typer.echo(tested_words(*view["tested"]["imported"]))
    if scope is Scope.TOWN:
        show("scenarios", [_scenario_row(each) for each in view["scenarios"]], _SCENARIO)


def _scenario_row(each: Mapping[str, Any]) -> dict[str, object]:
    energies = {f"{key}_kwh": f"{each[key] / 1e6:,.0f}" for key in ("used", "generated", "imported", "exported")}
    return {"scenario": each["scenario"], "year": each["year"], **energies}


def _cells(config: Path, scope: Scope, by: Span, month: str | None, name: str | None) -> list[Mapping[str, str]]:
    """Return the rows of a period of all subjects, or the past of one."""
    with reading(config) as (connection, _):
        last = last_month(connection) if month is None else month_number(month)
        if last is None:
            return []
        if name is not None:
            count = 1 if month is not None else 60 // by.months
            rows = usage_history(connection, scope, subject_of(connection, scope, name), last, by, count)
        else:
            rows = usage_of_all(connection, scope, span_around(last, by))
        return as_cells(connection, rows, by)


def _write(file: TextIO, found: Sequence[Mapping[str, str]], form: Format) -> int:
    if form is Format.JSON:
        json.dump(found, file, indent=1)
        file.write("\n")
    else:
        file.writelines([line_of(COLUMNS), *(line_of(row[name] for name in COLUMNS) for row in found)])
    return len(found)
