"""``commonwatt bills``: make runs of bills, check and issue them, show them (C3, docs/billing.md)."""

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from commonwatt.cli.dead_letter_options import JsonOption, LimitOption
from commonwatt.cli.tables import show
from commonwatt.model.words import counted, moment
from commonwatt.runtime.service import flowing
from utility.billing.canonical import bill_bytes
from utility.billing.cli import bill_audit, bill_documents
from utility.billing.cli.bill_view import show_bill
from utility.billing.proof.head import check_code
from utility.billing.run_columns import Run
from utility.billing.store.billing import run_of, tree_of
from utility.billing.store.issued_bills import bill_in
from utility.webkit.cli.listing import print_rows, rows_from
from utility.webkit.cli.options import ConfigOption, from_file
from utility.webkit.cli.service import ask, work

app = typer.Typer(no_args_is_help=True, help="Bills: run, check, issue, show, and what households get.")
for module in (bill_documents, bill_audit):
    app.add_typer(module.app)

RunArgument = Annotated[int, typer.Argument(help="The run's number; see: commonwatt bills list")]


@app.command()
@flowing
def run(month: Annotated[str, typer.Argument(help="The local month, such as 2026-11.")], config: ConfigOption) -> None:
    """Make the bills of a month for every account, as a draft; earlier months' corrections are lines of them.

    A run keeps all its inputs and never changes; with the same inputs no second one is made.
    """
    made = ask(config, "GET", work(config, "/runs", {"month": month}))
    number, figures = made["no"], made["figures"]
    typer.echo(f"run {number} of {month}: {counted(figures['bills'], 'bill')}, {figures['total']} dollars")
    typer.echo(_warnings(figures) + f"next: commonwatt bills check {number}")


@app.command("list")
@flowing
def list_runs(config: ConfigOption, limit: LimitOption = 20, as_json: JsonOption = False) -> None:
    """List the newest runs of bills with their state, and who made, checked and issued them."""
    rows = rows_from(config, "/runs", Run, limit=limit)
    columns = ("no", "month", "state", "policy", "bills", "total", "made_by", "made", "checked_by", "issued_by")
    print_rows("runs", rows, columns, as_json=as_json, shown=_run_row)


@app.command("show")
@flowing
def show_run(
    number: RunArgument,
    config: ConfigOption,
    account: Annotated[int | None, typer.Option(min=1, help="The bill of this account; else the run's sums.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show a run's sums, or the bill of one account in it with its lines."""
    with from_file(config) as (database, _), database.reads.begin() as connection:
        row = run_of(connection, number)
        code = check_code(tree_of(connection, number).head)
        bills = [] if account is None else [bill_in(database, number, account)]
    if as_json:
        typer.echo(bill_bytes(bills[0]).decode() if bills else json.dumps(row, indent=1))
    elif bills:
        show_bill(bills[0], number, row["state"], code)
    else:
        shown = {key: value for key, value in _run_row(Run(**row)).items() if key != "figures"} | row["figures"]
        shown["check_code"] = code
        show(
            "run", [{"what": key.replace("_", " "), "value": value} for key, value in shown.items()], ("what", "value")
        )


@app.command()
@flowing
def check(number: RunArgument, config: ConfigOption) -> None:
    """Compute a draft again from its inputs, compare each byte of its bills, and mark it as checked."""
    made = ask(config, "GET", work(config, f"/runs/{number}/check"))
    who = f"checked by {made['checked_by']}"
    typer.echo(f"run {number}: the same bytes again; {who}; next, by another person: commonwatt bills issue {number}")


@app.command()
@flowing
def issue(number: RunArgument, config: ConfigOption) -> None:
    """Issue a checked run. A second person has to, who neither made nor checked it; its bills never change then."""
    made = ask(config, "POST", f"/runs/{number}/issue")
    typer.echo(f"run {number}: issued by {made['issued_by']}")


def _warnings(figures: Mapping[str, Any]) -> str:
    words = {
        "provisional": "quarter-hours that may still change",
        "estimated": "estimated quarter-hours",
        "missing": "quarter-hours without data",
    }
    found = [f"{text} in {counted(figures[key], 'bill')}" for key, text in words.items() if figures[key]]
    return "".join(f"note: {text}\n" for text in found)


def _run_row(run: Run) -> dict[str, Any]:
    row = dict(run)
    times = {key: moment(row[key]) for key in ("made", "checked", "issued") if row[key] is not None}
    return row | times | {"bills": run.figures["bills"], "total": run.figures["total"]}
