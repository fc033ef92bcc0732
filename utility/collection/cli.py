"""``commonwatt utility assignments`` and ``pin``: who manages each microgrid, and who collects each meter's data."""

from typing import Annotated

import typer

from commonwatt.cli.dead_letter_options import JsonOption
from commonwatt.cli.tables import show
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.words import counted, duration, moment
from commonwatt.runtime.service import flowing
from utility.collection.columns import CollectedMeter
from utility.takeover.columns import Assignment, Explained
from utility.webkit.cli.listing import print_rows, rows_from
from utility.webkit.cli.options import ConfigOption
from utility.webkit.cli.service import ask, read

app = typer.Typer()


@app.command()
@flowing
def assignments(
    config: ConfigOption,
    explain: Annotated[
        str | None,
        typer.Option(
            "--explain",
            help="Only of this microgrid, who managed it before and why; or of this meter, by its id, who collects "
            "its data and why.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show which controller manages each microgrid, since when and why, and which others may, the first one first.

    Asks the running service. `no one`: no controller has confirmed yet that it manages it.

    Examples: `utility assignments`, `utility assignments --explain r001`, `utility assignments --explain 10003`.
    """
    if explain is None:
        rows = rows_from(config, "/assignments", Assignment)
        print_rows("microgrids", rows, as_json=as_json, shown=_row)
        return
    if explain.isdecimal():
        _print_meter(CollectedMeter.model_validate(read(config, f"/assignments/meters/{explain}")), as_json=as_json)
        return
    found = Explained.model_validate(read(config, f"/assignments/{explain}"))
    if as_json:
        typer.echo(found.model_dump_json(indent=1))
        return
    typer.echo(_sentence(found.assignment))
    lines = [dict(one) | {"since": moment(one.since), "epoch": _epoch(one.epoch)} for one in found.history]
    show("history", lines, ("since", "controller", "epoch", "why"))


@app.command()
@flowing
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


def _row(one: Assignment) -> dict[str, object]:
    since = None if one.since is None else moment(one.since)
    manager = one.manager or "no one"
    return {
        "microgrid": one.microgrid,
        "order": ", ".join(one.order),
        "manager": f"{manager}, not heard for {duration(one.unmanaged_s)}" if one.unmanaged_s else manager,
        "since": since,
        "why": one.why,
    }


def _sentence(one: Assignment) -> str:
    told = f"{one.microgrid} is managed by {one.manager or 'no one'}: {one.why}"
    if one.since is not None:
        told += f", since {moment(one.since)}, epoch {_epoch(one.epoch)}"
    if one.unmanaged_s:
        told += f"; no controller that can command it was heard for {duration(one.unmanaged_s)}"
    return f"{told}. It may be managed by {', then '.join(one.order)}."


def _epoch(epoch: tuple[int, int]) -> str:
    return f"{epoch[0]} of rank {epoch[1]}"
