"""``commonwatt utility pin``: decides who collects a meter's data."""

from typing import Annotated

import typer

from commonwatt.cli.options import JsonOption, show
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.text import counted, moment
from utility.collection.balance import CollectedMeter
from utility.webkit.cli import Commands, ConfigOption, ask

app = Commands()


@app.command()
def pin(
    config: ConfigOption,
    meter: Annotated[str, typer.Argument(help="The meter's id.")],
    brokers: Annotated[
        list[str] | None, typer.Argument(help="Controllers whose brokers it has, the first one first.")
    ] = None,
    release: Annotated[bool, typer.Option("--release", help="Let the service decide again.")] = False,
    why: Annotated[str, typer.Option("--why", help="The reason, for those who read it later.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Let a meter send its data to a controller, whatever the load of its line; needs the role operator.

    If that controller is lost, the meter sends to the next one by itself. The pin holds until it is released.

    Examples: `utility pin 10003 r002`, `utility pin 10003 --release`.
    """
    if release == bool(brokers):
        raise ConfigError("name the controllers, or give --release")
    asked = {"brokers": brokers or [], "why": why}
    found = ask(config, "POST", f"/assignments/meters/{meter}", asked)
    _print_meter(CollectedMeter.model_validate(found), as_json=as_json)


def _print_meter(found: CollectedMeter, *, as_json: bool) -> None:
    if as_json:
        typer.echo(found.model_dump_json(indent=1))
        return
    typer.echo(
        f"meter {found.meter} of {found.microgrid} sends to {found.collector}: {found.why}. That line carries "
        f"{counted(found.load, 'meter')}. Its brokers: {', then '.join(found.order)}."
    )
    lines = [dict(one) | {"since": moment(one.since), "brokers": ", ".join(one.brokers)} for one in found.history]
    show("history", lines, ("version", "since", "brokers", "person", "why"))
