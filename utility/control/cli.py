"""``commonwatt utility command`` and ``storm``: change gateways."""

from typing import Annotated, Any

import typer

from commonwatt.model.calendar import LOCAL_FORMS
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.text import counted, moment
from commonwatt.protocol.controller_commands import Action
from utility.control.changes import AskedChange
from utility.control.commands import FieldsError, checked_command, fields_of
from utility.control.decisions import announce_storm, make_change
from utility.control.store import find_change
from utility.database.town_zone import town_zone
from utility.supply.buying import Storm
from utility.webkit.cli import Commands, ConfigOption, from_file, local_actor, time_option

app = Commands()


@app.command()
def command(
    microgrid: Annotated[
        str,
        typer.Argument(help="The microgrid whose gateway gets it; several: `r001,r002`; `kind:residential`; or `all`."),
    ],
    action: Annotated[Action, typer.Argument(help="The command.")],
    config: ConfigOption,
    words: Annotated[
        list[str] | None, typer.Argument(help="Fields of the command, such as `relay_s=900`.", metavar="KEY=VALUE")
    ] = None,
    valid_s: Annotated[int, typer.Option("--valid", min=10, help="Sent until answered, for so many seconds.")] = 3600,
    when: Annotated[int | None, time_option(f"Send it at that time: {LOCAL_FORMS}; else now.")] = None,
) -> None:
    """Send a command to gateways, now or at a time; the running service repeats it until each gateway answers.

    Prints the number of the change and its content; `commonwatt show commands/changes` shows the outcomes, and
    `commonwatt do commands/NUMBER/put-back` undoes it.

    The fields are those of docs/protocol.md. A schedule takes its periods by name; `relay_s=file` sets one to what
    the gateway's file says, `periods=file` all that are not given. `first`, `last` and `from` are times.

    Examples: `command r001 aggregate at=meters mode=lossy for_s=600`, `command r001 schedule relay_s=900`,
    `command r001 schedule periods=file`, `command r001 get first=2026-11-01T04:00Z last=2026-11-01T05:00Z`,
    `command r001 supply supply=LOW for_s=3600`, `command r001 isolate state=on for_s=7200`,
    `command all schedule relay_s=900 --when 2026-11-30T02:00`.
    """
    with from_file(config) as (database, clock):
        try:
            fields = fields_of(words or (), town_zone(database))
            checked_command(action, fields, 0, "checked")
        except FieldsError as error:
            named = error.named(lambda field: _WORDS.get(field, field))
            raise ConfigError(f"{named}; see: commonwatt utility command --help") from error
        asked = AskedChange(action=action, fields=fields, **_chosen(microgrid), at=when, valid_s=valid_s)
        change = database.read(find_change, make_change(database, local_actor(), asked, int(clock.now())))
    what = f"{change.what}, {counted(change.microgrids, 'microgrid')}"
    typer.echo(f"change {change.no}: {what}; see: commonwatt show commands/changes")


_WORDS = {
    "first_quarter": "first",
    "last_quarter": "last",
    "periods": "a period such as relay_s, meters, or periods=file",
    "from_time": "from",
}


def _chosen(text: str) -> dict[str, Any]:
    if text == "all":
        return {"everyone": True}
    word, _, kind = text.partition(":")
    return {"kind": kind} if word == "kind" else {"microgrids": tuple(text.split(","))}


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
