"""A bill as a table in a terminal."""

import typer

from commonwatt.cli.tables import show
from commonwatt.model.words import counted
from utility.billing.bill import Bill, Line


def show_bill(bill: Bill, number: int, state: str, code: str) -> None:
    """Print a bill of a run, with the check code of its month."""
    typer.echo(
        f"account {bill.account}, {bill.month}, {', '.join(bill.tariff)}, policy {bill.policy}; run {number}, {state}"
    )
    show("lines", [_line_row(line) for line in bill.lines], ("line", "kWh", "rate", "dollars", "reason"))
    typer.echo(f"total {bill.total} dollars")
    for count, words in (
        (bill.provisional, "may still change"),
        (bill.estimated, "are estimated"),
        (bill.missing, "are without data"),
    ):
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
