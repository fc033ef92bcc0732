"""``commonwatt fleet``: releases and reports of many controllers."""

from pathlib import Path
from typing import Annotated

import typer

from commonwatt.model.exceptions import CommonwattError, ConfigError
from commonwatt.model.text import printable
from commonwatt.protocol.reports import read_report
from utility.care import store as packages
from utility.fleet.store import reports_of
from utility.webkit.cli import Commands, ConfigOption, from_file, load

app = Commands(
    no_args_is_help=True,
    help="Controllers: releases, reports; `commonwatt do fleet/rollouts` upgrades.",
)


@app.command()
def publish(
    file: Annotated[Path, typer.Argument(help="The release file, made at the office by `commonwatt site sign`.")],
    config: ConfigOption,
) -> None:
    """Take a signed release into the utility's folder."""
    settings, _ = load(config)
    if settings.head_end_ca is None:
        raise ConfigError(f"{config}: has no head_end_ca, by which a release is checked")
    manifest = packages.publish(file, settings.packages, settings.head_end_ca)
    typer.echo(f"Next: commonwatt do fleet/rollouts release={manifest.version} first=CONTROLLER")


@app.command()
def withdraw(release: Annotated[str, typer.Argument(help="The version.")], config: ConfigOption) -> None:
    """Withdraw a bad release: controllers that have not fetched all of it get no more.

    Controllers that have it keep it until the next release.
    """
    packages.withdraw(load(config)[0].packages, release)
    typer.echo(f"{release} is withdrawn. Next: commonwatt do fleet/rollouts/stop")


@app.command()
def report(
    controller: Annotated[str, typer.Argument(help="The controller, such as r001.")], config: ConfigOption
) -> None:
    """Print the newest report of a controller: alarms, doctor's findings, versions, machine, ends of logs.

    To ask for a new one: `commonwatt utility command r001 report`. Reports are kept for 90 days.
    """
    with from_file(config) as (database, _):
        found = database.read(reports_of, controller, 1)
    if not found:
        ask = f"commonwatt utility command {controller} report --config {config}"
        raise CommonwattError(f"{controller}: there is no report; ask for one: {ask}")
    # What a controller wrote must not steer this terminal.
    for line in read_report(found[0].text).splitlines():
        typer.echo(printable(line.expandtabs()))
