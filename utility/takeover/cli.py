"""``commonwatt utility assignments``: which controller manages each microgrid."""

from typing import Annotated

import typer

from commonwatt.cli.dead_letter_options import JsonOption
from commonwatt.cli.tables import show
from commonwatt.model.words import duration, moment
from commonwatt.runtime.service import flowing
from utility.takeover.columns import Assignment, Explained
from utility.webkit.cli.listing import print_rows, rows_from
from utility.webkit.cli.options import ConfigOption
from utility.webkit.cli.service import read

app = typer.Typer()


@app.command()
@flowing
def assignments(
    config: ConfigOption,
    explain: Annotated[
        str | None, typer.Option("--explain", help="Only of this microgrid, with who managed it before and why.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show which controller manages each microgrid, since when and why, and which others may, the first one first.

    Asks the running service. `no one`: no controller has confirmed yet that it manages it.

    Examples: `utility assignments`, `utility assignments --explain r001`.
    """
    if explain is None:
        rows = rows_from(config, "/assignments", Assignment)
        print_rows("microgrids", rows, as_json=as_json, shown=_row)
        return
    found = Explained.model_validate(read(config, f"/assignments/{explain}"))
    if as_json:
        typer.echo(found.model_dump_json(indent=1))
        return
    typer.echo(_sentence(found.assignment))
    lines = [dict(one) | {"since": moment(one.since), "epoch": _epoch(one.epoch)} for one in found.history]
    show("history", lines, ("since", "controller", "epoch", "why"))


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
