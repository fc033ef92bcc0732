"""``commonwatt utility dead-letters``: decides on quarantined readings."""

from typing import Annotated

import typer

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.words import counted
from utility.webkit.cli.options import Commands, ConfigOption
from utility.webkit.cli.service import ask

quarantine_app = Commands()


@quarantine_app.command()
def dead_letters(
    config: ConfigOption,
    release: Annotated[
        list[int] | None,
        typer.Option("--release", help="Release the quarantined readings of dead letter NO into the blocks."),
    ] = None,
    refuse: Annotated[
        list[int] | None, typer.Option("--refuse", help="Refuse the quarantined readings of dead letter NO for good.")
    ] = None,
    why: Annotated[str, typer.Option("--why", help="The reason, kept with the decision.")] = "",
) -> None:
    """Decide on quarantined readings; `commonwatt show dead-letters state=quarantined` lists them.

    A reading above what its meter's service can carry, or its battery can store, is quarantined: kept, but in no
    block and on no bill until a person decides. A released reading joins its block like any other. A refused reading
    stays a dead letter, and its slot is missing for that reason. A decision stands, and names who took it.

    Example: `utility dead-letters --release 17 --why "new service, 400 A"`.
    """
    if not (release or refuse):
        raise ConfigError("give --release NO or --refuse NO; see: commonwatt show dead-letters state=quarantined")
    for numbers, decided in ((release, "released"), (refuse, "refused")):
        if numbers:
            made = ask(config, "POST", "/dead-letters/decide", {"numbers": numbers, "decision": decided, "why": why})
            letters = counted(made["changed"], "dead letter")
            typer.echo(f"{letters}, {counted(made['slots'], 'slot')}: {decided} by {made['person']}")
