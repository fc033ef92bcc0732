"""Commands that show what the utility stores, and decide on quarantined readings."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from commonwatt.cli.dead_letter_options import (
    CountsOption,
    JsonOption,
    LimitOption,
    MeterOption,
    ReasonOption,
    SinceOption,
    show_counts,
    show_dead_letters,
)
from commonwatt.cli.tables import is_wide, show
from commonwatt.model.words import counted
from commonwatt.protocol.controller_commands import PERIODS
from commonwatt.protocol.dead_letter_words import wanted
from commonwatt.runtime.service import flowing
from utility.readings.columns import Refilling
from utility.readings.store import reads
from utility.readings.store.conflicts import conflicts as conflicting_slots
from utility.readings.store.dead_letters import dead_letter_counts
from utility.readings.store.dead_letters import dead_letters as kept_dead_letters
from utility.readings.store.heartbeats import refills
from utility.webkit.cli.listing import print_rows
from utility.webkit.cli.options import ConfigOption, from_file, reading
from utility.webkit.cli.service import ask

app = typer.Typer()


class State(StrEnum):
    """State of a quarantined dead letter."""

    QUARANTINED = "quarantined"
    RELEASED = "released"
    REFUSED = "refused"


@app.command()
@flowing
def dead_letters(
    config: ConfigOption,
    meter: MeterOption = None,
    reason: ReasonOption = None,
    since: SinceOption = None,
    state: Annotated[
        State | None, typer.Option("--state", help="Only quarantined, released or refused dead letters.")
    ] = None,
    counts: CountsOption = False,
    limit: LimitOption = 50,
    as_json: JsonOption = False,
    release: Annotated[
        list[int] | None,
        typer.Option("--release", help="Release the quarantined readings of dead letter NO into the blocks."),
    ] = None,
    refuse: Annotated[
        list[int] | None, typer.Option("--refuse", help="Refuse the quarantined readings of dead letter NO for good.")
    ] = None,
    why: Annotated[str, typer.Option("--why", help="The reason, kept with the decision.")] = "",
) -> None:
    """Show the newest dead letters: what was rejected, its sender and the reason; decide on quarantined readings.

    A reading above what its meter's service can carry, or its battery can store, is quarantined: kept, but in no
    block and on no bill until a person decides. A released reading joins its block like any other. A refused reading
    stays a dead letter, and its slot is missing for that reason. A decision stands, and names who took it. Held as `not
    assigned`: sent by a controller not assigned to the meter; the slots are requested from the meter's own gateway.
    Held as `ahead`: far ahead of the utility's clock, which is not confirmed; released by itself when it is.

    Examples: `dead-letters --state quarantined`, `dead-letters --release 17 --why "new service, 400 A"`, `dead-letters
        --since 24h --counts`.
    """
    for numbers, decided in ((release, State.RELEASED), (refuse, State.REFUSED)):
        if numbers:
            _decide(config, numbers, decided, why)
    if release or refuse:
        return
    with reading(config) as (connection, now):
        asked = wanted(meter, reason, since, now, state or "")
        if counts:
            show_counts(dead_letter_counts(connection, asked), as_json=as_json)
        else:
            columns = ("no", "time", "sender", "meter", *(("source",) if is_wide() else ()))
            show_dead_letters(kept_dead_letters(connection, limit, asked), as_json=as_json, columns=columns)


def _decide(config: Path, numbers: list[int], state: State, why: str) -> None:
    """Decide on dead letters, all or none, and print the result."""
    asked = {"numbers": numbers, "decision": state, "why": why}
    made = ask(config, "POST", "/dead-letters/decide", asked)
    letters = counted(made["changed"], "dead letter")
    typer.echo(f"{letters}, {counted(made['slots'], 'slot')}: {state} by {made['person']}")


@app.command()
@flowing
def conflicts(config: ConfigOption, limit: LimitOption = 50) -> None:
    """Show slots of finished quarters with conflicting values, and the controllers that sent each value.

    The smallest value is used, all are kept. A slot is listed once its quarter-hour is compacted: up to
    `compact_s` (900 s) and a minute after the quarter-hour's end.
    """
    with from_file(config) as (database, _):
        rows = [row | {"values": _values_text(row["values"])} for row in conflicting_slots(database, limit)]
    show("conflicts", rows, ("meter", "type", "start", "quality", "values"))


def _values_text(values: Any) -> str:
    return ", ".join(f"{one['value']} ({' and '.join(one['senders']) or 'unknown'})" for one in values)


@app.command()
@flowing
def gaps(config: ConfigOption, limit: LimitOption = 50) -> None:
    """Show the oldest blocks with missing slots, how often they were requested, and the time of the next request."""
    with reading(config) as (connection, _):
        columns = ("microgrid", "meter", "type", "start", "slots", "absent", "asked", "next_time")
        show("gaps", reads.gaps(connection, limit), columns)


@app.command()
@flowing
def schedules(config: ConfigOption, as_json: JsonOption = False) -> None:
    """Show the periods, in seconds, at which each gateway collects, requests levels, relays and compacts.

    They are from its last heartbeat. Periods set by `command schedule` are named under tuned; the others are from the
    gateway's file.
    """
    with reading(config) as (connection, _):
        rows = reads.schedules(connection)
    columns = ("microgrid", *PERIODS, "tuned", *(("time",) if is_wide() else ()))
    print_rows("schedules", rows, columns, as_json=as_json, shown=_schedule_row)


@app.command()
@flowing
def refilling(config: ConfigOption, as_json: JsonOption = False) -> None:
    """Show how far each gateway is in refilling a database that was lost, and which gateways are not heard.

    Public microgrids begin at once, others after a quarter of an hour; each takes an eighth of its line. A refill that
    ended is listed for a day.
    """
    with reading(config) as (connection, now):
        print_rows("stores", refills(connection, now), Refilling, as_json=as_json)


@app.command()
@flowing
def lines(config: ConfigOption, as_json: JsonOption = False) -> None:
    """Show each controller's LTE use this month and its forecast for the month's end, in GB, each way.

    As last reported by its gateway. A line is at risk if its forecast exceeds its plan's allowance.
    """
    with reading(config) as (connection, _):
        rows = reads.lines(connection)
    columns = [name for row in rows[:1] for name in row if name != "time" or is_wide()]
    print_rows("lines", rows, columns, as_json=as_json, shown=_in_gigabytes)


def _schedule_row(row: dict[str, Any]) -> dict[str, object]:
    return row | {"tuned": "unknown" if row["tuned"] is None else ", ".join(row["tuned"]) or "none"}


def _in_gigabytes(row: dict[str, object]) -> dict[str, object]:
    figures = {name: f"{value / 1e9:.3f}" for name, value in row.items() if isinstance(value, int) and name != "time"}
    return row | figures | {"level": str(row["level"]).replace("_", " ")}
