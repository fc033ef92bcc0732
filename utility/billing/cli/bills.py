"""``commonwatt bills``: make runs of bills, check and issue them, show them (C3, docs/billing.md)."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from commonwatt.model.words import counted
from utility.billing.cli.bill_audit import audit_app
from utility.billing.cli.bill_documents import documents_app
from utility.webkit.cli.options import Commands, ConfigOption
from utility.webkit.cli.service import ask, work

app = Commands(no_args_is_help=True, help="Bills: run, check, issue, show, and what households get.")
for part in (documents_app, audit_app):
    app.add_typer(part)

RunArgument = Annotated[int, typer.Argument(help="The run's number; see: commonwatt show runs")]


@app.command()
def run(month: Annotated[str, typer.Argument(help="The local month, such as 2026-11.")], config: ConfigOption) -> None:
    """Make the bills of a month for every account, as a draft; earlier months' corrections are lines of them.

    A run keeps all its inputs and never changes; with the same inputs no second one is made.
    """
    made = ask(config, "GET", work(config, "/runs", {"month": month}))
    number, figures = made["no"], made["figures"]
    typer.echo(f"run {number} of {month}: {counted(figures['bills'], 'bill')}, {figures['total']} dollars")
    typer.echo(_warnings(figures) + f"next: commonwatt bills check {number}")


@app.command()
def check(number: RunArgument, config: ConfigOption) -> None:
    """Compute a draft again from its inputs, compare each byte of its bills, and mark it as checked."""
    made = ask(config, "GET", work(config, f"/runs/{number}/check"))
    who = f"checked by {made['checked_by']}"
    typer.echo(f"run {number}: the same bytes again; {who}; next, by another person: commonwatt bills issue {number}")


@app.command()
def issue(number: RunArgument, config: ConfigOption) -> None:
    """Issue a checked run. A second person has to, who neither made nor checked it; its bills never change then."""
    made = ask(config, "POST", f"/runs/{number}/issue")
    typer.echo(f"run {number}: issued by {made['issued_by']}")


@app.command()
def enter(
    kind: Annotated[str, typer.Argument(help="goodwill, fee, credit_note; cancel: a run of bills is cancelled.")],
    subject: Annotated[int, typer.Argument(help="The account; with cancel, the run.")],
    why: Annotated[str, typer.Option("--why", help="The reason, as the bill shows it.")],
    config: ConfigOption,
    amount: Annotated[str, typer.Option("--amount", help="Dollars; without meaning with cancel.")] = "0",
) -> None:
    """Enter something for an account's next bill, or that a run is cancelled; another person has to approve it."""
    made = ask(config, "POST", "/entries", {"kind": kind, "subject": subject, "amount": amount, "reason": why})
    typer.echo(f"entry {made['no']}; next, by another person: commonwatt bills approve {made['no']}")


@app.command()
def approve(number: Annotated[int, typer.Argument(help="The entry's number.")], config: ConfigOption) -> None:
    """Approve an entry, as another person than the one who entered it. A run that it cancels is cancelled at once."""
    made = ask(config, "POST", f"/entries/{number}/approve")
    typer.echo(f"entry {number}: approved by {made['decided_by']}")


def _warnings(figures: Mapping[str, Any]) -> str:
    words = {
        "provisional": "quarter-hours that may still change",
        "estimated": "estimated quarter-hours",
        "missing": "quarter-hours without data",
    }
    found = [f"{text} in {counted(figures[key], 'bill')}" for key, text in words.items() if figures[key]]
    if "days" in figures:
        found.append(f"{figures['days']} of {figures['of_days']} days are settled: it is no month yet")
    return "".join(f"note: {text}\n" for text in found)
