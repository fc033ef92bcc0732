"""``commonwatt bills receipt``: what a household gets of a bill (docs/checking-a-bill.md)."""

import json
from pathlib import Path
from typing import Annotated

import typer

from commonwatt.runtime.files import replace_file
from commonwatt.runtime.service import errors_reported, flowing
from utility.billing.tariffs.local_calendar import parse_month
from utility.cli.options import ConfigOption, from_file
from utility.store.bill_documents import documents_of

app = typer.Typer()

AccountArgument = Annotated[int, typer.Argument(min=1, help="The account.")]
MonthArgument = Annotated[str, typer.Argument(help="The local month, such as 2026-11.")]


@app.command()
@flowing
def receipt(
    account: AccountArgument,
    month: MonthArgument,
    config: ConfigOption,
    out: Annotated[Path | None, typer.Option("--out", help="The file; without it, to standard output.")] = None,
) -> None:
    """Write the receipt of a bill: one JSON file by which anybody can check the bill without the utility."""
    with errors_reported(), from_file(config) as (database, _):
        parse_month(month)
        text = json.dumps(documents_of(database, month).receipt(account), separators=(",", ":"))
        if out is None:
            typer.echo(text)
            return
        replace_file(out, text.encode())
    typer.echo(f"{out}: the receipt of account {account}; check it: python docs/examples/check_bill.py {out}")
