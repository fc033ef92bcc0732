"""``commonwatt bills``: runs of bills, bills on paper and explained, and what an auditor gets (docs/billing.md)."""

import csv
import json
from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from commonwatt.cli.options import JsonOption, show, shown_progress
from commonwatt.model.calendar import parse_month
from commonwatt.model.exceptions import ConfigError, StoreError
from commonwatt.model.text import counted
from commonwatt.runtime.files import replace_file, replacing
from commonwatt.runtime.service import progress_bar
from utility.billing.audit import BoundaryMeters, leaves_file
from utility.billing.audit import audit as audited
from utility.billing.bill import Bill, BillLine
from utility.billing.documents.explained import ExplainedBill, rows_within
from utility.billing.documents.pdf import as_pdf
from utility.billing.proof import bill_bytes, check_code, public_list
from utility.billing.store.documents import as_letters, documents_of, documents_of_run, leaves_of
from utility.billing.store.witnesses import keys_of, signed_of
from utility.registry.store.enrolment import Enrolment
from utility.webkit.cli import Commands, ConfigOption, from_file, load

audit_app = Commands()

_AUDIT_COLUMNS = ("microgrid", "imported_mwh", "exported_mwh", "allowed_mwh")


@audit_app.command()
def leaves(
    month: Annotated[str, typer.Argument(help="The local month, such as 2026-11.")],
    config: ConfigOption,
    out: Annotated[Path, typer.Option("--out", help="The file (JSON lines).")],
    run: Annotated[int, typer.Option("--run", min=0, help="This run, such as a cancelled one.")] = 0,
) -> None:
    """Write every leaf of a month's tree, for an auditor: each account's bill and energies. Keep the file secret."""
    with from_file(config) as (database, _):
        parse_month(month)
        documents = documents_of_run(database, run, None) if run else documents_of(database, month)
        with shown_progress("computing again", 100.0) as tell:
            found = leaves_of(documents, tell)
        with replacing(out) as file:
            for line in leaves_file(documents.tree.head, found):
                file.write(line.encode() + b"\n")
    typer.echo(f"{out}: {len(found)} leaves of {documents.run.month}; next: commonwatt bills audit {out}")


@audit_app.command()
def audit(
    file: Annotated[Path, typer.Argument(help="The file of: commonwatt bills leaves", exists=True, dir_okay=False)],
    boundary: Annotated[
        Path | None,
        typer.Option(
            "--boundary",
            exists=True,
            dir_okay=False,
            help=f"What the auditor read from the boundary meters: CSV with the columns {', '.join(_AUDIT_COLUMNS)}.",
        ),
    ] = None,
    code: Annotated[str, typer.Option("--code", help="The check code as it is printed on a bill.")] = "",
) -> None:
    """Check a month from all its leaves: root, totals by class, sums of bills, and members against boundary meters."""
    boundaries = None if boundary is None else _boundaries(boundary)
    try:
        with file.open(encoding="utf-8") as lines:
            found = audited(lines, boundaries)
    except ValueError as error:
        raise ConfigError(f"{file}: {error}") from error
    faults = [*found.faults]
    if code and "".join(code.split()) != found.code:
        faults.append(f"the printed check code is another one than that of the file, {found.code}")
    for fault in faults:
        typer.echo(f"WRONG: {fault}")
    compared = f"{counted(found.microgrids, 'microgrid')} compared, at most {found.largest} mWh off"
    if not found.microgrids:
        compared = "no microgrid was compared with its boundary meters; to compare them: --boundary FILE"
    typer.echo(f"{found.leaves} leaves, {counted(found.bills, 'bill')}; {compared}")
    typer.echo(f"check code of the month: {found.code}")
    if faults:
        raise StoreError(f"{file}: {counted(len(faults), 'fault')}")
    typer.echo("nothing is wrong" + ("" if found.microgrids else " in the leaves; energies were not compared"))


def _boundaries(path: Path) -> list[BoundaryMeters]:
    """Read what the boundary meters show."""
    found = []
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        for row in rows:
            try:
                microgrid, *numbers = (row[column] for column in _AUDIT_COLUMNS)
                imported, exported, allowed = map(int, numbers)
            except (KeyError, TypeError, ValueError) as error:
                columns = ", ".join(_AUDIT_COLUMNS)
                raise ConfigError(f"{path}:{rows.line_num}: needs whole numbers in the columns {columns}") from error
            found.append(BoundaryMeters(microgrid=microgrid, imported=imported, exported=exported, allowed=allowed))
    return found


@audit_app.command()
def witnesses(
    config: ConfigOption,
    out: Annotated[Path, typer.Option("--out", help="The file (JSON).")],
    enrolment: Annotated[
        Path,
        typer.Option(
            "--enrolment",
            exists=True,
            file_okay=False,
            help="The office's folder, with the list of revoked controllers.",
        ),
    ],
) -> None:
    """Write the town's public list of witnesses: the keys by which controllers sign the check codes. Publish it."""
    revoked = {name for name, each in Enrolment(enrolment).head_end().items() if each.device.revoked}
    with from_file(config) as (database, _):
        found = public_list(database.read(signed_of), database.read(keys_of), revoked)
    replace_file(out, json.dumps(found, indent=1).encode(), mode=0o644)
    typer.echo(f"{out}: {counted(len(found['keys']), 'key')}; publish it where the utility alone can't change it")


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
        explained = ExplainedBill(documents.run.inputs(), bill, documents.quarters(account))
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
        with progress_bar() as progress:
            for statement in progress.track(statements, len(accounts), description="printing"):
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


def _line_row(line: BillLine) -> dict[str, object]:
    return {
        "line": line.text,
        "kWh": "" if line.energy is None else f"{line.energy // 10**6}.{line.energy % 10**6:06d}",
        "rate": line.rate,
        "dollars": line.amount,
        "reason": line.reason,
    }


app = Commands(no_args_is_help=True, help="Bills: explain, print, prove; `commonwatt do runs` makes them.")
for part in (documents_app, audit_app):
    app.add_typer(part)
