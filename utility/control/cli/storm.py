"""``commonwatt utility storm``: announces a storm."""

from typing import Annotated

import typer

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.time.times import LOCAL_FORMS
from commonwatt.model.words import moment
from utility.control.decisions import announce_storm
from utility.supply.buying.situation import Storm
from utility.webkit.cli.options import Commands, ConfigOption, from_file, local_actor, time_option

storm_app = Commands()


@storm_app.command()
def storm(
    config: ConfigOption,
    start: Annotated[int | None, time_option(f"When it is expected, else now: {LOCAL_FORMS}.")] = None,
    for_s: Annotated[int, typer.Option("--for", min=900, help="For how many seconds.")] = 43_200,
    off: Annotated[bool, typer.Option("--off", help="No storm is expected any more.")] = False,
) -> None:
    """Announce a storm: until its end homes' batteries give to others only what a nearly empty one needs.

    All gateways get the command `hold`; `commonwatt show commands/changes` shows their outcomes. `planner` also has the
    plant's battery full when the storm comes, and holds it until its end. A later announcement replaces an earlier one.
    """
    with from_file(config) as (database, clock):
        now = int(clock.now())
        begin = now if start is None else start
        expected = None if off else Storm(start=begin, end=begin + for_s)
        if expected is not None and expected.end <= now:
            raise ConfigError(
                f"--start {moment(begin)}: this storm ended at {moment(expected.end)}; nothing was changed"
            )
        number = announce_storm(database, local_actor(), expected, now)
        if number is None:
            typer.echo("no microgrid is registered yet: the plant alone receives it")
        else:
            typer.echo(f"change {number} tells all gateways; see: commonwatt show commands/changes")
    typer.echo("no storm" if expected is None else f"storm from {moment(expected.start)} to {moment(expected.end)}")
