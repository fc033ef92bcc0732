"""``commonwatt utility command``, ``changes``, ``commands`` and ``storm``: change gateways, and what came of it."""

from typing import Annotated, Any

import typer

from commonwatt.model.calendar import LOCAL_FORMS
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.text import counted, moment
from commonwatt.model.units import QUARTER_S
from commonwatt.protocol.controller_commands import Action
from utility.control.changes import Asked, Chosen
from utility.control.commands import FieldsError, checked_command
from utility.control.decisions import announce_storm, cancel_change, make_change, put_back, title
from utility.control.store import find_change
from utility.database.database import Database
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
    at: Annotated[
        str | None, typer.Option(help="aggregate, deaggregate: `gateway` (its relay; the default) or `meters`.")
    ] = None,
    mode: Annotated[
        str | None, typer.Option(help="aggregate: `lossless` (the default) or `lossy` (averages of ten).")
    ] = None,
    for_s: Annotated[
        int | None,
        typer.Option(
            "--for", help="For how many seconds. Needed by supply, notice, and `--state on` but of stop; else for ever."
        ),
    ] = None,
    first: Annotated[int | None, time_option(f"get: a time in the first quarter wanted: {LOCAL_FORMS}.")] = None,
    last: Annotated[int | None, time_option("get: a time in the last quarter wanted.")] = None,
    collect_s: Annotated[int | None, typer.Option(help="schedule: seconds between collections.")] = None,
    levels_s: Annotated[int | None, typer.Option(help="schedule: seconds between requests for levels.")] = None,
    relay_s: Annotated[int | None, typer.Option(help="schedule: seconds between batches.")] = None,
    put_s: Annotated[
        int | None, typer.Option(help="schedule: seconds between the meters' puts, whole minutes, at most 900.")
    ] = None,
    compact_s: Annotated[int | None, typer.Option(help="schedule: seconds between compactions.")] = None,
    meters: Annotated[
        str | None, typer.Option(help="schedule: how all meters aggregate from their start on, `none` or `lossless`.")
    ] = None,
    reset: Annotated[
        bool, typer.Option("--reset", help="schedule: reset the periods that are not given to the gateway's file.")
    ] = False,
    strategy: Annotated[
        str | None, typer.Option(help="sharing: `spec`, `aces`, `rangers`, or `file`: as its file says.")
    ] = None,
    from_time: Annotated[int | None, time_option("sharing: from when; else at once.", "--from")] = None,
    state: Annotated[str | None, typer.Option(help="reduce, isolate, hold, stop: `on` or `off`.")] = None,
    meter: Annotated[str | None, typer.Option(help="stop: the meter that shuts down, or with `off` starts up.")] = None,
    supply: Annotated[
        str | None, typer.Option(help="supply: the region's state, `NORMAL`, `LOW`, `CRITICAL` or `EMPTY`.")
    ] = None,
    import_limit_w: Annotated[
        int | None, typer.Option(help="supply: most watts that the microgrid may take from the town; else no limit.")
    ] = None,
    power: Annotated[str | None, typer.Option(help="notice: the feeder's power is `lost` or `back`.")] = None,
    valid_s: Annotated[int, typer.Option("--valid", min=10, help="Sent until answered, for so many seconds.")] = 3600,
    when: Annotated[int | None, time_option(f"Send it at that time: {LOCAL_FORMS}; else now.")] = None,
) -> None:
    """Send a command to gateways, now or at a time; the running service repeats it until each gateway answers.

    Prints the number of the change and its content; `commonwatt show commands/changes` shows the outcomes, and
    `commonwatt utility put-back` undoes it.

    Examples: `command r001 aggregate --at meters --mode lossy --for 600`, `command r001 schedule --relay-s 900`,
    `command r001 schedule --reset`, `command r001 get --first 2026-11-01T04:00Z --last 2026-11-01T05:00Z`,
    `command r001 supply --supply LOW --for 3600`, `command r001 isolate --state on --for 7200`,
    `command all schedule --relay-s 900 --when 2026-11-30T02:00`.
    """
    given = {
        "collect_s": collect_s,
        "levels_s": levels_s,
        "relay_s": relay_s,
        "put_s": put_s,
        "compact_s": compact_s,
    }
    periods = {name: value for name, value in given.items() if reset or value is not None}
    fields = {
        "at": at,
        "mode": mode,
        "for_s": for_s,
        "first_quarter": None if first is None else first // QUARTER_S,
        "last_quarter": None if last is None else last // QUARTER_S,
        "periods": periods or (None if meters is None else {}),
        "meters": meters,
        "strategy": strategy,
        "from_time": from_time,
        "state": state,
        "meter": meter,
        "supply": supply,
        "import_limit_w": import_limit_w,
        "power": power,
    }
    asked = _asked(microgrid, action, fields, when, valid_s)
    with from_file(config) as (database, clock):
        _tell(database, make_change(database, local_actor(), asked, int(clock.now())))


@app.command(name="put-back")
def put_back_change(
    number: Annotated[int, typer.Argument(metavar="CHANGE", help="The number of the change.")], config: ConfigOption
) -> None:
    """Put back what was in force before a change, at each microgrid that it reached."""
    with from_file(config) as (database, clock):
        _tell(database, put_back(database, local_actor(), number, int(clock.now())))


@app.command()
def cancel(
    number: Annotated[int, typer.Argument(metavar="CHANGE", help="The number of the change.")], config: ConfigOption
) -> None:
    """Cancel a planned change before it is sent."""
    with from_file(config) as (database, clock):
        cancel_change(database, local_actor(), number, int(clock.now()))
        typer.echo(f"change {number} is cancelled")


_OPTIONS = {
    "for_s": "--for",
    "first_quarter": "--first",
    "last_quarter": "--last",
    "periods": "a period such as --relay-s, --meters, or --reset",
    "from_time": "--from",
}


def _asked(microgrid: str, action: Action, fields: dict[str, Any], when: int | None, valid_s: int) -> Asked:
    """Return the change that the options ask for."""
    given = {name: value for name, value in fields.items() if value is not None}
    try:
        checked_command(action, given, 0, "checked")
    except FieldsError as error:
        named = error.named(lambda field: _OPTIONS.get(field, "--" + field.replace("_", "-")))
        raise ConfigError(f"{named}; see: commonwatt utility command --help") from error
    return Asked(action=action, fields=given, chosen=_chosen(microgrid), at=when, valid_s=valid_s)


def _chosen(text: str) -> Chosen:
    if text == "all":
        return Chosen(everyone=True)
    word, _, kind = text.partition(":")
    return Chosen(kind=kind) if word == "kind" else Chosen(microgrids=tuple(text.split(",")))


def _tell(database: Database, number: int) -> None:
    change = database.read(find_change, number)
    what = f"{title(change)}, {counted(change.microgrids, 'microgrid')}"
    typer.echo(f"change {number}: {what}; see: commonwatt show commands/changes")


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
