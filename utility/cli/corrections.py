"""``commonwatt corrections``: what the checks found, proposed estimates, and what people decide on them."""

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from commonwatt.cli.dead_letter_options import JsonOption
from commonwatt.cli.tables import show as show_table
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.records import RecordType
from commonwatt.model.times import LOCAL_FORMS, parse_time
from commonwatt.model.units import QUARTER_S
from commonwatt.model.words import counted, moment
from commonwatt.runtime.service import errors_reported, flowing
from commonwatt.settlement.estimates.methods import Method
from commonwatt.settlement.validation.day import Check
from utility.cli.options import ConfigOption, from_file, load
from utility.corrections.lifecycle import Action, State
from utility.corrections.plot import plot
from utility.corrections.summaries import Summary, step_lines, summaries
from utility.decisions.corrections import Edit, close_findings, decide_chosen, lines_around, meter_number
from utility.decisions.corrections import edit as enter
from utility.people import AsOption, actor_of
from utility.store import checking
from utility.store.corrections import Chosen, found, steps_of
from utility.store.town_zone import zone_of

app = typer.Typer(no_args_is_help=True, help="Findings of the daily checks, and corrections of readings.")

MAX_SHOWN = 20_000
"""Most corrections that one command shows."""

MetersOption = Annotated[list[str] | None, typer.Option("--meter", help="Only of this meter.")]
FromOption = Annotated[str | None, typer.Option("--from", help=f"Only from this moment on: {LOCAL_FORMS}.")]
ToOption = Annotated[str | None, typer.Option("--to", help="Only before this moment, in the same forms.")]
MethodOption = Annotated[
    str | None, typer.Option("--method", help="Only by this method: balance, interpolation, like-days, edit, register.")
]
WhyOption = Annotated[str, typer.Option("--why", help="The reason, kept with the decision.")]
_COLUMNS = ("microgrid", "meter", "type", "start", "until", "method", "state", "minutes", "kWh")


@app.command("list")
@flowing
def list_(
    config: ConfigOption,
    meter: MetersOption = None,
    start: FromOption = None,
    end: ToOption = None,
    method: MethodOption = None,
    state: Annotated[
        list[State] | None, typer.Option("--state", help="Only in this state; without it, those proposed.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List corrections: quarter-hours in a row of one meter, method and state are a line.

    Examples: `corrections list`, `corrections list --state approved --state edited --from 2026-11 --to 2026-12`.
    """
    with errors_reported(), from_file(config) as (database, _):
        with database.reads.begin() as connection:
            chosen = _chosen(connection, meter, start, end, method)
            rows = summaries(found(connection, chosen, [*(state or [State.PROPOSED])], MAX_SHOWN + 1))
        if as_json:
            typer.echo(json.dumps(rows, indent=1))
        else:
            show_table("corrections", [_row(row) for row in rows], _COLUMNS)
        if sum(len(row["numbers"]) for row in rows) > MAX_SHOWN:
            typer.echo(
                f"more than {MAX_SHOWN} quarter-hours: only the first are shown; choose with --meter, --from, --to"
            )


@app.command()
@flowing
def show(
    config: ConfigOption,
    meter: Annotated[str, typer.Option("--meter", help="The meter.")],
    start: FromOption = None,
    end: ToOption = None,
) -> None:
    """Show a meter's corrections with every step of theirs, and a plot beside its readings and like days.

    Example: `corrections show --meter 10002 --from 2026-11-01 --to 2026-11-04`.
    """
    with errors_reported(), from_file(config) as (database, _):
        settings, _ = load(config)
        with database.reads.begin() as connection:
            chosen = _chosen(connection, [meter], start, end, None)
            rows = found(connection, chosen, list(State), MAX_SHOWN)
            steps = steps_of(connection, [row.no for row in rows])
        show_table("corrections", [_row(row) for row in summaries(rows)], _COLUMNS)
        for kind in sorted({row.record_type for row in rows}):
            of = [row for row in rows if row.record_type == kind]
            typer.echo(f"\n{RecordType(kind).name.lower()}, from {moment(of[0].quarter * QUARTER_S)}")
            for line in plot(lines_around(database, settings.validation, of)[1]):
                typer.echo(line)
        typer.echo("")
        show_table("steps", step_lines(steps), ("time", "person", "from", "to", "quarter-hours", "why"))


@app.command()
@flowing
def approve(
    config: ConfigOption,
    person: AsOption,
    meter: MetersOption = None,
    start: FromOption = None,
    end: ToOption = None,
    method: MethodOption = None,
    why: WhyOption = "",
) -> None:
    """Approve proposed estimates: settlement takes them where a reading is missing.

    A reading that comes later counts in place of the estimate, by itself.

    Examples: `corrections approve --as anna --method balance`, `corrections approve --as anna --meter 10002 --from
    2026-11-01 --to 2026-11-04`.
    """
    _decide(config, Action.APPROVE, person, (meter, start, end, method), why)


@app.command()
@flowing
def refuse(
    config: ConfigOption,
    person: AsOption,
    meter: MetersOption = None,
    start: FromOption = None,
    end: ToOption = None,
    method: MethodOption = None,
    why: WhyOption = "",
) -> None:
    """Refuse proposed estimates: the slots stay missing, and are not proposed again."""
    _decide(config, Action.REFUSE, person, (meter, start, end, method), why)


@app.command()
@flowing
def revert(
    config: ConfigOption,
    person: AsOption,
    meter: MetersOption = None,
    start: FromOption = None,
    end: ToOption = None,
    method: MethodOption = None,
    why: WhyOption = "",
) -> None:
    """Take a decision back: estimates are proposed again, a person's values count no more.

    Where a person's value is taken back, the reading or the estimate that it replaced counts again.
    """
    _decide(config, Action.REVERT, person, (meter, start, end, method), why)


@app.command()
@flowing
def edit(
    config: ConfigOption,
    person: AsOption,
    meter: Annotated[str, typer.Option("--meter", help="The meter.")],
    start: Annotated[str, typer.Option("--from", help=f"The first moment: {LOCAL_FORMS}.")],
    end: Annotated[str, typer.Option("--to", help="The moment after the last, in the same forms.")],
    why: Annotated[str, typer.Option("--why", help="The reason, kept with the values.")],
    energy: Annotated[
        str | None,
        typer.Option("--energy", help="Energy of the whole period, kilowatt-hours; without it, that of like days."),
    ] = None,
    of: Annotated[str, typer.Option("--type", help="through or generation.")] = "through",
) -> None:
    """Enter the energy of a period, in place of readings and estimates; it counts at once.

    The energy is spread over the period in the shape of like days, or evenly without any. The readings stay stored,
    and count again after `corrections revert`.

    Example: `corrections edit --as anna --meter 10002 --from 2026-11-01T18:00 --to 2026-11-02 --energy 4.25 --why
    "meter stuck, reading by hand"`.
    """
    with errors_reported(), from_file(config) as (database, clock):
        settings, _ = load(config)
        new = Edit(meter=meter, record_type=of, start=start, end=end, energy=energy)
        actor = actor_of(settings.billing, person)
        span, total = enter(database, settings.validation, new, actor, why, int(clock.now()))
    typer.echo(f"meter {meter}: {counted(len(span), 'quarter-hour')} edited by {person}, {total / 1e6:.3f} kWh")


@app.command()
@flowing
def findings(
    config: ConfigOption,
    meter: MetersOption = None,
    check: Annotated[Check | None, typer.Option("--check", help="Only of this check.")] = None,
    close: Annotated[list[int] | None, typer.Option("--close", help="Close finding NO; needs --as.")] = None,
    person: Annotated[str | None, typer.Option("--as", help="The person who closes, of `people` in the file.")] = None,
    why: WhyOption = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="The most findings to show.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """Show the oldest open findings of the daily checks, or close some.

    A finding changes nothing that is billed: enter other values with `corrections edit`, or close it. Findings of gaps
    close by themselves when the readings come.

    Example: `corrections findings --close 17 --as anna --why "guests"`.
    """
    with errors_reported(), from_file(config) as (database, clock):
        if close:
            settings, _ = load(config)
            actor = actor_of(settings.billing, person or "")
            closed = close_findings(database, close, actor, why, int(clock.now()))
            typer.echo(f"{counted(closed, 'finding')} closed by {actor.name}")
            return
        with database.reads.begin() as connection:
            numbers = None if not meter else [meter_number(connection, each) for each in meter]
            rows = [_finding(row) for row in checking.open_findings(connection, limit, numbers, check)]
        if as_json:
            typer.echo(json.dumps(rows, indent=1))
        else:
            columns = ("no", "microgrid", "meter", "type", "start", "until", "check", "figure", "threshold")
            show_table("findings", [row | {"until": moment(row["until"])} for row in rows], columns)


def _decide(config: Any, action: Action, person: str, words: tuple[Any, ...], why: str) -> None:
    """Take a step with the chosen corrections in one transaction, and print what was changed."""
    with errors_reported(), from_file(config) as (database, clock):
        settings, _ = load(config)
        actor = actor_of(settings.billing, person)
        if not any(words):
            raise ConfigError(f"choose what to {action}: give --meter, --from and --to, or --method")
        with database.reads.begin() as connection:
            chosen = _chosen(connection, *words)
        rows = decide_chosen(database, chosen, action, actor, why, int(clock.now()))
        energy = sum(row.energy for row in rows)
        meters = len({row.meter_no for row in rows})
        done = {Action.APPROVE: "approved", Action.REFUSE: "refused", Action.REVERT: "taken back"}[action]
    what = f"{counted(len(rows), 'correction')} of {counted(meters, 'meter')}, {energy / 1e6:.3f} kWh"
    typer.echo(f"{what}: {done} by {person}")


def _chosen(
    connection: Any, meter: Sequence[str] | None, start: str | None, end: str | None, method: str | None
) -> Chosen:
    zone = zone_of(connection)
    first = None if start is None else parse_time(start, "--from", zone)
    until = None if end is None else parse_time(end, "--to", zone)
    if first is not None and until is not None and first >= until:
        raise ConfigError("--from must be before --to")
    for name, time in (("--from", first), ("--to", until)):
        if time is not None and time % QUARTER_S:
            raise ConfigError(f"{name} must be a quarter-hour, a multiple of {QUARTER_S} s")
    return Chosen(
        meters=None if not meter else [meter_number(connection, each) for each in meter],
        first=None if first is None else first // QUARTER_S,
        until=None if until is None else until // QUARTER_S,
        method=None if method is None else _method(method),
    )


def _method(text: str) -> Method:
    for method in Method:
        if method.words == text:
            return method
    raise ConfigError(f"--method {text:.30}: is none of {', '.join(method.words for method in Method)}")


def _row(row: Summary) -> dict[str, object]:
    return {
        **row,
        "until": moment(row["until"]),
        "minutes": f"{row['minutes']:g}",
        "kWh": f"{row['energy_mwh'] / 1e6:.3f}",
    }


def _finding(row: Any) -> dict[str, Any]:
    return {
        "no": row.no,
        "microgrid": row.microgrid,
        "meter": row.label,
        "type": RecordType(row.record_type).name.lower(),
        "start": row.first_quarter * QUARTER_S,
        "until": row.until_quarter * QUARTER_S,
        "check": row.check_name,
        "figure": row.figure,
        "threshold": row.threshold,
    }
