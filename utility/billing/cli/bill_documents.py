"""``commonwatt bills explain|print|receipt``: a bill down to quarter-hours, on paper, and to be checked."""

import json
from datetime import date
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track

from commonwatt.cli.options import JsonOption
from commonwatt.cli.tables import show
from commonwatt.model.time.local_calendar import parse_month
from commonwatt.model.words import counted
from commonwatt.runtime.files import replace_file
from utility.billing.bill import Bill, Line
from utility.billing.canonical import bill_bytes
from utility.billing.documents.explained import Explained, rows_within
from utility.billing.documents.pdf import as_pdf
from utility.billing.proof.head import check_code
from utility.billing.store.bill_documents import documents_of
from utility.billing.store.letters import as_letters
from utility.webkit.cli.options import Commands, ConfigOption, from_file, load

documents_app = Commands()

AccountArgument = Annotated[int, typer.Argument(min=1, help="The account.")]
MonthArgument = Annotated[str, typer.Argument(help="The local month, such as 2026-11.")]


_COLUMNS = (
    "from", "period", "imported kWh", "exported kWh", "shared in kWh", "shared out kWh", "dollars", "quality",
)  # fmt: skip


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no day; write it as 2026-11-03") from error


@documents_app.command()
def explain(
    account: AccountArgument,
    month: MonthArgument,
    config: ConfigOption,
    day: Annotated[
        date | None, typer.Option(parser=_day, metavar="DAY", help="The hours of this local day, such as 2026-11-03.")
    ] = None,
    hour: Annotated[int | None, typer.Option(min=0, max=23, help="With --day: the quarter-hours of this hour.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show a bill from its amount down to days, hours or quarter-hours, with prices and the quality of the data."""
    if hour is not None and day is None:
        raise typer.BadParameter("--hour needs --day")
    with from_file(config) as (database, _):
        parse_month(month)
        documents = documents_of(database, month)
        bill = documents.bill(account)
        explained = Explained(documents.run.inputs(), bill, documents.quarters(account))
    rows = rows_within(explained, day, hour)
    if as_json:
        typer.echo(json.dumps({"bill": json.loads(bill_bytes(bill)), "steps": rows}, indent=1))
        return
    _show_bill(bill, documents.number, documents.state, check_code(documents.tree.head))
    show("quarter-hours" if hour is not None else "hours" if day else "days", rows, _COLUMNS)
    typer.echo("dollars: import less credit for own export, before rounding; base and parts of pools are lines")


@documents_app.command("print")
def print_bills(
    month: MonthArgument,
    config: ConfigOption,
    out: Annotated[Path, typer.Option("--out", help="The folder for the files; it is made if it is not there.")],
    account: Annotated[int | None, typer.Option(min=1, help="The bill of this account; else all of the month.")] = None,
) -> None:
    """Write bills as PDF, with a plot by hour and the month's check code: a file for each account.

    A file is complete or not there; the command again writes the same files.
    """
    with from_file(config) as (database, _):
        parse_month(month)
        documents = documents_of(database, month)
        accounts = sorted(documents.bills) if account is None else [documents.bill(account).account]
        out.mkdir(parents=True, exist_ok=True)
        statements = as_letters(database, load(config)[0], documents, documents.statements(accounts))
        progress = track(statements, "printing", len(accounts), console=Console(stderr=True), transient=True)
        for statement in progress:
            replace_file(out / f"{month}-{statement.bill.account}.pdf", as_pdf(statement))
    typer.echo(f"{out}: {counted(len(accounts), 'bill')} of {month}, run {documents.number}, {documents.state}")


@documents_app.command()
def receipt(
    account: AccountArgument,
    month: MonthArgument,
    config: ConfigOption,
    out: Annotated[Path | None, typer.Option("--out", help="The file; without it, to standard output.")] = None,
) -> None:
    """Write the receipt of a bill: one JSON file by which anybody can check the bill without the utility."""
    with from_file(config) as (database, _):
        parse_month(month)
        text = json.dumps(documents_of(database, month).receipt(account), separators=(",", ":"))
        if out is None:
            typer.echo(text)
            return
        replace_file(out, text.encode())
    typer.echo(f"{out}: the receipt of account {account}; check it: python docs/examples/check_bill.py {out}")


def _show_bill(bill: Bill, number: int, state: str, code: str) -> None:
    """Print a bill of a run, with the check code of its month."""
    typer.echo(
        f"account {bill.account}, {bill.month}, {', '.join(bill.tariff)}, policy {bill.policy}; run {number}, {state}"
    )
    show("lines", [_line_row(line) for line in bill.lines], ("line", "kWh", "rate", "dollars", "reason"))
    typer.echo(f"total {bill.total} dollars")
    counts = (
        (bill.provisional, "may still change"),
        (bill.estimated, "are estimated"),
        (bill.missing, "are without data"),
    )
    for count, words in counts:
        if count:
            typer.echo(f"note: {counted(count, 'quarter-hour')} {words}")
    typer.echo(f"check code of the month: {code}")


def _line_row(line: Line) -> dict[str, object]:
    return {
        "line": line.text,
        "kWh": "" if line.energy is None else f"{line.energy // 10**6}.{line.energy % 10**6:06d}",
        "rate": line.rate,
        "dollars": line.amount,
        "reason": line.reason,
    }
