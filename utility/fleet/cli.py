"""``commonwatt fleet``: the care for controllers from the office."""

from typing import Annotated

import typer

from commonwatt.model.exceptions import CommonwattError
from commonwatt.protocol.reports import read_report
from commonwatt.runtime.service import flowing
from utility.fleet.store import reports_of
from utility.webkit.cli.options import ConfigOption, from_file

app = typer.Typer(no_args_is_help=True, help="The controllers of a town: what they report of themselves.")


@app.callback()
def fleet() -> None:
    """Care for the controllers of a town from the office."""


@app.command()
@flowing
def report(
    controller: Annotated[str, typer.Argument(help="The controller, such as r001.")], config: ConfigOption
) -> None:
    """Print the newest report of a controller: alarms, doctor's findings, versions, machine, ends of logs.

    To ask for a new one: `commonwatt utility command r001 report --wait`. Reports are kept for 90 days.
    """
    with from_file(config) as (database, _):
        found = database.read(reports_of, controller, 1)
    if not found:
        ask = f"commonwatt utility command {controller} report --wait --config {config}"
        raise CommonwattError(f"{controller}: there is no report; ask for one: {ask}")
    typer.echo(read_report(found[0].text))
