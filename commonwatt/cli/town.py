"""``commonwatt town``: a town file in which every number is stated."""

from pathlib import Path
from typing import Annotated

import typer

from commonwatt.cli.options import Commands
from commonwatt.config.files import check_model, read_toml
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.text import counted
from commonwatt.town.loading import WHOLE_TOWN, places_of_town, places_text, town_of
from commonwatt.town.town import Function, TownFile

app = Commands(no_args_is_help=True, help="Make a town file.")

_HEAD = """\
# Each place, with the numbers of its controller, meters and account, is a row of {places}.
# Add rows anywhere with numbers of their own: no other number changes. docs/settlement.md
"""


@app.callback()
def town() -> None:
    """Make a town file."""


@app.command()
def generate(
    out: Annotated[Path, typer.Option("--out", help="The town file to write; its table of places gets its name.")],
    source: Annotated[
        Path | None,
        typer.Option("--from", help="A town file whose numbers are stated as they are; without it, the whole town."),
    ] = None,
) -> None:
    """Write a town file and its table of places (CSV), in which every number is stated.

    Without --from it is the whole town of the specification: 802 controllers, 16,307 meters, 8,303 accounts. With
    --from, an existing town keeps every number, and from then on rows can be added in the middle.
    """
    table = out.with_suffix(".csv")
    if out == table:
        other = out.with_suffix(".toml")
        raise ConfigError(f"{out}: is the name of the table of places; call the town file {other}")
    if taken := next((path for path in (out, table) if path.exists()), None):
        raise ConfigError(f"{taken}: is there already; choose another --out, or move it away")
    source = source or WHOLE_TOWN
    file = check_model(source, TownFile, read_toml(source))
    made = town_of(file, source)
    for path, text in ((table, "".join(places_text(places_of_town(made)))), (out, _text(file, table.name))):
        path.write_text(text, encoding="utf-8", newline="")
    meters = sum(meter.function is not Function.BOUNDARY for meter in made.meters)
    typer.echo(
        f"{out} and {table}: {counted(len(made.microgrids), 'controller')}, {counted(meters, 'meter')} beside "
        f"those of the boundaries, {counted(made.accounts, 'account')}"
    )


def _text(file: TownFile, places: str) -> str:
    own = file.model_copy(update={"town": file.town.model_copy(update={"places": places}), "microgrid": []})
    return f"{_HEAD.format(places=places)}\n{own.text()}"
