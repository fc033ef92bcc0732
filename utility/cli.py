"""``commonwatt utility``: registers a town, runs the service, and shows and exports what it has."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from getpass import getuser
from itertools import chain
from pathlib import Path
from secrets import token_hex
from typing import Annotated, Any, NoReturn

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import track

from commonwatt import dumps
from commonwatt.addresses import database_fault
from commonwatt.clock import Clock
from commonwatt.commands import ControllerCommand
from commonwatt.devices import load_tokens
from commonwatt.exceptions import ConfigError
from commonwatt.letter_options import (
    CountsOption,
    JsonOption,
    LimitOption,
    MeterOption,
    ReasonOption,
    SinceOption,
    show_counts,
    show_letters,
)
from commonwatt.letters import wanted
from commonwatt.service import errors_told, flowing, run_service
from commonwatt.tables import is_wide, moment, show
from commonwatt.topics import UTILITY
from commonwatt.town import Microgrid, load_town
from commonwatt.units import MAX_EPOCH, QUARTER_S
from utility.registry import enrol, fill_registry
from utility.store import reads
from utility.store.database import Database, open_database
from utility.store.held import MAX_WHO, MAX_WHY, Decision, decide
from utility.store.known import OpenCommand, add_command, load_known
from utility.store.letters import letter_counts
from utility.store.letters import letters as kept_letters
from utility.upkeep import ConfigOption, load, opened
from utility.upkeep import app as upkeep_app

app = typer.Typer(
    help="The utility: stores, completes, counts and shows what the gateways relay.",
    no_args_is_help=True,
)
app.add_typer(upkeep_app)


@app.command()
@flowing
def run(config: ConfigOption) -> None:
    """Run the service until it is told to stop (SIGTERM or Ctrl-C).

    It keeps what the gateways relay over the head-end broker, asks for what is missing, and serves the API, its page
    /docs and /metrics. It starts without broker and network, and connects when they are there. The database is made,
    or brought up to date, at the start.

    An example of the file: commonwatt config example utility
    """
    with errors_told():
        settings, clock = load(config)
        tokens = load_tokens(settings.tokens)
        if UTILITY not in tokens:
            raise ConfigError(
                f"{settings.tokens}: has no token of {UTILITY}; make one with: commonwatt utility register"
            )
        # Loaded for this command alone: it takes longer than most of the others take.
        from utility.shell import Service

        database = open_database(settings.database, create=True, check=True)
        try:
            run_service(Service(settings, clock, database, tokens[UTILITY]).run)
        finally:
            database.close()


@app.command()
@flowing
def register(
    town: Annotated[Path, typer.Option("--town", help="The town file (TOML).")],
    database: Annotated[
        str | None,
        typer.Option("--database", help="SQLAlchemy URL of the database to fill, such as sqlite:///utility.db."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the files of brokers, gateways and meters.")
    ] = None,
) -> None:
    """Register a town: fill the database, and make the token of every device.

    Writes OUT/MICROGRID/ with registry.json and gateway-tokens.json (for the gateway), devices.json (for its broker)
    and meter-tokens.json; OUT/head-end/devices.json (for the utility's broker); OUT/utility/utility-tokens.json.

    Do it again after appending to the town file, such as a meter: it adds what is new and keeps every token.
    Running brokers and the running utility take the additions over by themselves.

    With --out alone it makes the files and no database, with --database alone it fills that and makes no file: so the
    secrets of the town need not be on the machine where the database is.
    """
    with errors_told():
        if database is None and out is None:
            raise ConfigError("give --database, --out, or both; see: commonwatt utility register --help")
        loaded = load_town(town)
        if database is not None and (fault := database_fault(database)):
            raise ConfigError(fault)
        told = [f"{_count(len(loaded.microgrids), 'microgrid')} and {_count(len(loaded.meters), 'meter')} registered"]
        if database is not None:
            with opened(database, create=True) as filled, filled.writes.begin() as connection:
                added = fill_registry(connection, loaded)
            told.append(f", of them new: {added.new_controllers} and {added.new_meters}")
        if out is not None:
            told.append(f"; {_count(enrol(loaded, out, _track), 'new token')} in {out}")
    typer.echo("".join(told))


@app.command()
@flowing
def dump(
    config: ConfigOption,
    start: Annotated[int, typer.Option(min=0, max=MAX_EPOCH, help="First second, UTC epoch; whole quarters.")] = 0,
    end: Annotated[int, typer.Option(min=0, max=MAX_EPOCH, help="Second after the last.")] = MAX_EPOCH,
) -> None:
    """Write every block, joined, and every event as JSON lines, to be compared with what meters and gateways have.

    One line each, such as {"kind": "block", "meter": "10001", "type": 3, "quarter": 1988888, "values": [...],
    "quality": "22...", "extras": []}. Blocks come by quarter: those that begin in [START, END).
    """
    with errors_told(), _from(config) as (database, _):
        quarters = -(-start // QUARTER_S), -(-end // QUARTER_S) - 1
        lines = chain(
            chain.from_iterable(dumps.block_lines(blocks) for blocks in reads.all_blocks(database, *quarters)),
            dumps.event_lines(reads.all_events(database, start, end)),
        )
        for line in lines:
            sys.stdout.write(line + "\n")


class State(StrEnum):
    """What is decided on a letter."""

    HELD = "held"
    RELEASED = "released"
    REFUSED = "refused"


class Action(StrEnum):
    """What a controller can be told."""

    AGGREGATE = "aggregate"
    DEAGGREGATE = "deaggregate"
    GET = "get"
    SCHEDULE = "schedule"


@app.command()
@flowing
def command(
    microgrid: Annotated[str, typer.Argument(help="The microgrid whose gateway is told.")],
    action: Annotated[Action, typer.Argument(help="What it is told.")],
    config: ConfigOption,
    at: Annotated[
        str | None, typer.Option(help="aggregate, deaggregate: `gateway` (its relay; the default) or `meters`.")
    ] = None,
    mode: Annotated[
        str | None, typer.Option(help="aggregate: `lossless` (the default) or `lossy` (averages of ten).")
    ] = None,
    for_s: Annotated[int | None, typer.Option("--for", help="aggregate: for how many seconds; else for ever.")] = None,
    first: Annotated[int | None, typer.Option(help="get: a second in the first quarter wanted, UTC epoch.")] = None,
    last: Annotated[int | None, typer.Option(help="get: a second in the last quarter wanted.")] = None,
    collect_s: Annotated[int | None, typer.Option(help="schedule: seconds between collections.")] = None,
    levels_s: Annotated[int | None, typer.Option(help="schedule: seconds between requests for levels.")] = None,
    relay_s: Annotated[int | None, typer.Option(help="schedule: seconds between batches.")] = None,
    compact_s: Annotated[int | None, typer.Option(help="schedule: seconds between compactions.")] = None,
    valid_s: Annotated[int, typer.Option("--valid", min=10, help="Sent until answered, for so many seconds.")] = 3600,
) -> None:
    """Tell a gateway something; the running service sends it, again and again, until it is answered.

    Prints the command's id and what was asked; `commonwatt utility commands` shows what became of it.

    Examples: `command r001 aggregate --at meters --mode lossy --for 600`, `command r001 schedule --relay-s 900`,
    `command r001 get --first 1790000000 --last 1790003600`.
    """
    periods = {"collect_s": collect_s, "levels_s": levels_s, "relay_s": relay_s, "compact_s": compact_s}
    fields = {
        "at": at,
        "mode": mode,
        "for_s": for_s,
        "first_quarter": None if first is None else first // QUARTER_S,
        "last_quarter": None if last is None else last // QUARTER_S,
        "periods": {name: value for name, value in periods.items() if value is not None} or None,
    }
    with errors_told(), _from(config) as (database, clock):
        now = int(clock.now())
        message = _checked(action, {name: value for name, value in fields.items() if value is not None}, now + valid_s)
        with database.writes.begin() as connection:
            known = load_known(connection).controllers
            if microgrid not in known:
                raise ConfigError(f"microgrid {microgrid} is not registered; there are {_some(sorted(known))}")
            text = message.pack().decode()
            add_command(
                connection, OpenCommand(id=message.id, controller=microgrid, message=text, until=message.until), now
            )
        typer.echo(f"{message.id}: {_asked(message.model_dump())}; see: commonwatt utility commands")


@app.command()
def commands(config: ConfigOption, limit: LimitOption = 20, as_json: JsonOption = False) -> None:
    """Show the newest commands to gateways, and what became of them."""
    with errors_told(), _from(config) as (database, _):
        with database.reads.begin() as connection:
            rows = reads.commands(connection, limit)
        if as_json:
            typer.echo(json.dumps(rows, indent=1))
        else:
            show("commands", [_command_row(row) for row in rows], ("id", "to", "what", "state", "result"))


@app.command()
@flowing
def letters(
    config: ConfigOption,
    meter: MeterOption = None,
    reason: ReasonOption = None,
    since: SinceOption = None,
    state: Annotated[
        State | None, typer.Option("--state", help="Only those that are held, or that were released or refused.")
    ] = None,
    counts: CountsOption = False,
    limit: LimitOption = 50,
    as_json: JsonOption = False,
    release: Annotated[
        list[int] | None, typer.Option("--release", help="Take the held readings of letter NO into the blocks.")
    ] = None,
    refuse: Annotated[
        list[int] | None, typer.Option("--refuse", help="Never take the held readings of letter NO.")
    ] = None,
    who: Annotated[str | None, typer.Option("--by", help="Who decides; else the user of this machine.")] = None,
    why: Annotated[str, typer.Option("--why", help="Why it was decided so, for those who ask later.")] = "",
) -> None:
    """Show the newest dead letters: what could not be accepted, from whom, and why; decide on those that are held.

    A reading that is more than its meter's service can carry, or its battery hold, is held: kept as it came, but in no
    block and on no bill until a person decides. Released, it is part of its block like any other reading. Refused, it
    stays a letter, and its slot is missing for that reason. A decision stands, and names who took it.

    Examples: `letters --state held`, `letters --release 17 --why "new service, 400 A"`, `letters --since 24h --counts`.
    """
    with errors_told(), _from(config) as (database, clock):
        now = int(clock.now())
        if release or refuse:
            decisions = [*((no, State.RELEASED) for no in release or ()), *((no, State.REFUSED) for no in refuse or ())]
            _decide(database, decisions, who or getuser(), why, now)
            return
        asked = wanted(meter, reason, since, now, state or "")
        with database.reads.begin() as connection:
            if counts:
                show_counts(letter_counts(connection, asked), as_json=as_json)
            else:
                columns = ("no", "time", "sender", "meter", *(("door",) if is_wide() else ()))
                show_letters(kept_letters(connection, limit, asked), as_json=as_json, columns=columns)


def _decide(database: Database, decisions: Sequence[tuple[int, State]], who: str, why: str, now: int) -> None:
    """Take all decisions in one transaction, and say what became of each."""
    if len(who) > MAX_WHO or len(why) > MAX_WHY:
        raise ConfigError(f"--by may have {MAX_WHO} characters, --why {MAX_WHY}")
    with database.writes.begin() as connection:
        done = [(no, state, decide(connection, Decision(no, state, who, why, now))) for no, state in decisions]
    for no, state, blocks in done:
        slots = int((blocks.quality > 0).sum())
        typer.echo(f"letter {no}: {_count(slots, 'slot')} of meter {blocks.key(0)[0]} {state} by {who}")


@app.command()
def conflicts(config: ConfigOption, limit: LimitOption = 50) -> None:
    """Show slots of finished quarters for which different values came; the smallest stands until a person decides."""
    with errors_told(), _from(config) as (database, _):
        show("conflicts", reads.conflicts(database, limit), ("meter", "type", "start", "quality", "values"))


@app.command()
def gaps(config: ConfigOption, limit: LimitOption = 50) -> None:
    """Show the oldest blocks with missing slots, how often they were asked for, and when next."""
    with errors_told(), _from(config) as (database, _), database.reads.begin() as connection:
        columns = ("microgrid", "meter", "type", "start", "slots", "absent", "asked", "next_time")
        show("gaps", reads.gaps(connection, limit), columns)


@app.command()
@flowing
def lines(config: ConfigOption, as_json: JsonOption = False) -> None:
    """Show what each controller's LTE line has cost this month and is expected to by its end, in GB, each way.

    As its gateway said last. At risk is a line of which more is expected than its plan allows.
    """
    with errors_told(), _from(config) as (database, _):
        with database.reads.begin() as connection:
            rows = reads.lines(connection)
        if as_json:
            typer.echo(json.dumps(rows, indent=1))
        else:
            columns = [name for row in rows[:1] for name in row if name != "time" or is_wide()]
            show("lines", [_in_gigabytes(row) for row in rows], columns)


def _in_gigabytes(row: dict[str, object]) -> dict[str, object]:
    figures = {name: f"{value / 1e9:.3f}" for name, value in row.items() if isinstance(value, int) and name != "time"}
    return row | figures | {"level": str(row["level"]).replace("_", " ")}


@contextmanager
def _from(config: Path) -> Iterator[tuple[Database, Clock]]:
    """Open the database of a file; whether the service runs makes no difference."""
    settings, clock = load(config)
    with opened(settings.database, create=False) as database:
        yield database, clock


def _checked(action: Action, fields: dict[str, Any], until: int) -> ControllerCommand:
    """Return the command, or say what is wrong with its options."""
    allowed = {
        Action.AGGREGATE: {"at", "mode", "for_s"},
        Action.DEAGGREGATE: {"at"},
        Action.GET: {"first_quarter", "last_quarter"},
        Action.SCHEDULE: {"periods"},
    }[action]
    needed = allowed if action in (Action.GET, Action.SCHEDULE) else set()
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


def _options(fields: Iterable[str]) -> str:
    names = {
        "for_s": "--for",
        "first_quarter": "--first",
        "last_quarter": "--last",
        "periods": "a period such as --relay-s",
    }
    return ", ".join(names.get(field, "--" + field.replace("_", "-")) for field in sorted(fields))


def _wrong(text: str) -> NoReturn:
    raise ConfigError(f"{text}; see: commonwatt utility command --help")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "") if names else "none"


def _track(microgrids: Sequence[Microgrid]) -> Iterable[Microgrid]:
    return track(microgrids, "enrolling", console=Console(stderr=True), transient=True)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _command_row(row: dict[str, Any]) -> dict[str, object]:
    outcome = row["outcome"] or {}
    result = ": ".join(str(outcome[key]) for key in ("result", "reason") if outcome.get(key))
    if outcome.get("sent") is not None:
        result += f", {_count(outcome['sent'], 'block')} sent"
    if outcome.get("absent"):
        result += f", of {_count(len(outcome['absent']), 'block')} not all there"
    return {
        "id": row["id"],
        "to": row["controller"],
        "what": _asked(row["message"], defaults=False),
        "state": row["state"],
        "result": result,
    }


def _asked(message: dict[str, Any], *, defaults: bool = True) -> str:
    """Say in words what a command asks for.

    Args:
        message: A ``ControllerCommand``'s keys and values.
        defaults: Also say what would be so anyway.
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
        details.append(_count(len(blocks), "block"))
    if message.get("first_quarter") is not None and message.get("last_quarter") is not None:
        first, end = message["first_quarter"] * QUARTER_S, (message["last_quarter"] + 1) * QUARTER_S
        details.append(f"{moment(first)} to {moment(end)}")
    details += [f"{name}={seconds}" for name, seconds in (message.get("periods") or {}).items()]
    return f"{cmd} {', '.join(details)}".rstrip()
