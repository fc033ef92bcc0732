"""``commonwatt utility command`` and ``commands``: send commands to gateways, and show their outcomes."""

import json
from collections.abc import Iterable, Sequence
from secrets import token_hex
from typing import Annotated, Any, NoReturn

import typer
from pydantic import ValidationError

from commonwatt.cli.dead_letter_options import JsonOption, LimitOption
from commonwatt.cli.tables import show
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.times import LOCAL_FORMS
from commonwatt.model.units import MAX_EPOCH, QUARTER_S
from commonwatt.model.words import counted, moment
from commonwatt.protocol.controller_commands import ACTIONS, Action, ControllerCommand
from commonwatt.runtime.service import errors_reported, flowing
from utility.changes import OpenCommand
from utility.cli.options import ConfigOption, from_file, time_of
from utility.store import reads
from utility.store.open_commands import add_command
from utility.store.registry import load_snapshot

app = typer.Typer()


@app.command()
@flowing
def command(
    microgrid: Annotated[str, typer.Argument(help="The microgrid whose gateway gets the command.")],
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
        typer.Option("--for", help="For how many seconds. Needed by supply, notice, and `--state on`; else for ever."),
    ] = None,
    first: Annotated[
        int | None,
        typer.Option(parser=time_of, metavar="TIME", help=f"get: a time in the first quarter wanted: {LOCAL_FORMS}."),
    ] = None,
    last: Annotated[
        int | None, typer.Option(parser=time_of, metavar="TIME", help="get: a time in the last quarter wanted.")
    ] = None,
    collect_s: Annotated[int | None, typer.Option(help="schedule: seconds between collections.")] = None,
    levels_s: Annotated[int | None, typer.Option(help="schedule: seconds between requests for levels.")] = None,
    relay_s: Annotated[int | None, typer.Option(help="schedule: seconds between batches.")] = None,
    compact_s: Annotated[int | None, typer.Option(help="schedule: seconds between compactions.")] = None,
    meters: Annotated[
        str | None, typer.Option(help="schedule: how all meters aggregate from their start on, `none` or `lossless`.")
    ] = None,
    reset: Annotated[
        bool, typer.Option("--reset", help="schedule: reset the periods that are not given to the gateway's file.")
    ] = False,
    strategy: Annotated[
        str | None, typer.Option(help="sharing: `spec`, `aces` or `rangers`, until another one is set.")
    ] = None,
    weight: Annotated[
        list[str] | None, typer.Option(help="sharing: a donor's weight, METER=1 to 1000; may be given several times.")
    ] = None,
    from_time: Annotated[
        int | None, typer.Option("--from", parser=time_of, metavar="TIME", help="sharing: from when; else at once.")
    ] = None,
    state: Annotated[str | None, typer.Option(help="reduce, isolate: `on` or `off`.")] = None,
    supply: Annotated[
        str | None, typer.Option(help="supply: the region's state, `NORMAL`, `LOW`, `CRITICAL` or `EMPTY`.")
    ] = None,
    import_limit_w: Annotated[
        int | None, typer.Option(help="supply: most watts that the microgrid may take from the town; else no limit.")
    ] = None,
    power: Annotated[str | None, typer.Option(help="notice: the feeder's power is `lost` or `back`.")] = None,
    counter: Annotated[int | None, typer.Option(help="term: the epoch's counter to command from.")] = None,
    valid_s: Annotated[int, typer.Option("--valid", min=10, help="Sent until answered, for so many seconds.")] = 3600,
) -> None:
    """Send a command to a gateway; the running service repeats it until the gateway answers.

    Prints the command's id and content; `commonwatt utility commands` shows its outcome.

    Examples: `command r001 aggregate --at meters --mode lossy --for 600`, `command r001 schedule --relay-s 900`,
    `command r001 schedule --reset`, `command r001 get --first 2026-11-01T04:00Z --last 2026-11-01T05:00Z`,
    `command r001 supply --supply LOW --for 3600`, `command r001 isolate --state on --for 7200`.
    """
    given = {"collect_s": collect_s, "levels_s": levels_s, "relay_s": relay_s, "compact_s": compact_s}
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
        "weights": _weights(weight or []) or None,
        "from_time": from_time,
        "state": state,
        "supply": supply,
        "import_limit_w": import_limit_w,
        "power": power,
        "counter": counter,
    }
    with errors_reported(), from_file(config) as (database, clock):
        now = int(clock.now())
        message = _checked(action, {name: value for name, value in fields.items() if value is not None}, now + valid_s)
        with database.writes.begin() as connection:
            known = load_snapshot(connection).controllers
            if microgrid not in known:
                raise ConfigError(f"microgrid {microgrid} is not registered; there are {_some(sorted(known))}")
            text = message.pack().decode()
            add_command(
                connection, OpenCommand(id=message.id, controller=microgrid, message=text, until=message.until), now
            )
        typer.echo(f"{message.id}: {_asked(message.model_dump())}; see: commonwatt utility commands")


@app.command()
def commands(config: ConfigOption, limit: LimitOption = 20, as_json: JsonOption = False) -> None:
    """Show the newest commands to gateways, and their outcomes."""
    with errors_reported(), from_file(config) as (database, _):
        with database.reads.begin() as connection:
            rows = reads.commands(connection, limit)
        if as_json:
            typer.echo(json.dumps(rows, indent=1))
        else:
            show("commands", [_command_row(row) for row in rows], ("id", "to", "what", "state", "result"))


def _checked(action: Action, fields: dict[str, Any], until: int) -> ControllerCommand:
    """Return the command; raise ``ConfigError`` for wrong options."""
    keys = ACTIONS[action]
    needed = {"first_quarter", "last_quarter"} if action is Action.GET else set(keys.needed)
    needed |= {"for_s"} if fields.get("state") == "on" else set()
    allowed = {*keys.needed, *keys.optional} - {"blocks"}
    if missing := needed - fields.keys():
        _wrong(f"{action} needs {_options(missing)}")
    if extra := fields.keys() - allowed:
        _wrong(f"{action} does not take {_options(extra)}")
    if action is Action.GET and fields["first_quarter"] > fields["last_quarter"]:
        _wrong("--first must not be after --last")
    try:
        return ControllerCommand.model_validate(
            {"id": f"cli-{token_hex(8)}", "cmd": action.value, "until": min(until, MAX_EPOCH), **fields}
        )
    except ValidationError as error:
        fault = error.errors()[0]
        _wrong(f"{_options([str(fault['loc'][-1])])}: {fault['msg']} (found {fault['input']!r})")


def _weights(given: Sequence[str]) -> dict[str, str]:
    parted = [text.partition("=") for text in given]
    if wrong := [text for text, (meter, _, _) in zip(given, parted, strict=True) if not meter.isdecimal()]:
        _wrong(f"--weight: METER=WEIGHT, such as 10001=2 (found {wrong[0]!r})")
    return {meter: weight for meter, _, weight in parted}


def _options(fields: Iterable[str]) -> str:
    names = {
        "for_s": "--for",
        "first_quarter": "--first",
        "last_quarter": "--last",
        "periods": "a period such as --relay-s, --meters, or --reset",
        "weights": "--weight",
        "from_time": "--from",
    }
    return ", ".join(names.get(field, "--" + field.replace("_", "-")) for field in sorted(fields))


def _wrong(text: str) -> NoReturn:
    raise ConfigError(f"{text}; see: commonwatt utility command --help")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "") if names else "none"


def _command_row(row: dict[str, Any]) -> dict[str, object]:
    outcome = row["outcome"] or {}
    result = ": ".join(str(outcome[key]) for key in ("result", "reason") if outcome.get(key))
    if outcome.get("sent") is not None:
        result += f", {counted(outcome['sent'], 'block')} sent"
    if outcome.get("absent"):
        result += f", of {counted(len(outcome['absent']), 'block')} not all there"
    return {
        "id": row["id"],
        "to": row["controller"],
        "what": _asked(row["message"], defaults=False),
        "state": row["state"],
        "result": result,
    }


def _asked(message: dict[str, Any], *, defaults: bool = True) -> str:
    """Return a command's content as text for people.

    Args:
        message: A ``ControllerCommand``'s keys and values.
        defaults: Also show values that equal the defaults.
    """
    cmd = message["cmd"]
    details = []
    if cmd in (Action.AGGREGATE, Action.DEAGGREGATE) and (defaults or message.get("at") == "meters"):
        details.append(f"at {message.get('at', 'gateway')}")
    if cmd == Action.AGGREGATE and (defaults or message.get("mode") == "lossy"):
        details.append(message.get("mode", "lossless"))
    if message.get("for_s"):
        details.append(f"for {message['for_s']} s")
    if blocks := message.get("blocks"):
        details.append(counted(len(blocks), "block"))
    if message.get("first_quarter") is not None and message.get("last_quarter") is not None:
        first, end = message["first_quarter"] * QUARTER_S, (message["last_quarter"] + 1) * QUARTER_S
        details.append(f"{moment(first)} to {moment(end)}")
    names = ("strategy", "state", "supply", "power", "counter")
    details += [str(message[name]) for name in names if message.get(name) is not None]
    if message.get("import_limit_w") is not None:
        details.append(f"at most {message['import_limit_w']} W")
    details += [f"{meter}={weight}" for meter, weight in (message.get("weights") or {}).items()]
    if message.get("from_time") is not None:
        details.append(f"from {moment(message['from_time'])}")
    periods = message.get("periods") or {}
    details += [f"meters {message['meters']}"] if message.get("meters") else []
    details += [f"{name}={'as in its file' if seconds is None else seconds}" for name, seconds in periods.items()]
    return f"{cmd} {', '.join(details)}".rstrip()
