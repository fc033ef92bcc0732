"""``commonwatt corrections``: what the checks found, proposed estimates, and what people decide on them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel

from commonwatt.cli.dead_letter_options import JsonOption
from commonwatt.cli.tables import show as show_table
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.records import RecordType
from commonwatt.model.times import LOCAL_FORMS
from commonwatt.model.units import QUARTER_S
from commonwatt.model.words import counted, moment
from commonwatt.runtime.service import errors_reported, flowing
from commonwatt.settlement.validation.day import Check
from utility.corrections.columns import Finding, Summary
from utility.corrections.decisions import chosen_of, lines_around, meter_number
from utility.corrections.lifecycle import Action, State
from utility.corrections.plot import plot
from utility.corrections.store import checking
from utility.corrections.store.corrections import found, steps_of
from utility.corrections.summaries import step_lines, summaries
from utility.webkit.cli.options import ConfigOption, from_file, load
from utility.webkit.cli.service import ask
from utility.webkit.columns import cells, columns_of, heading, plain

app = typer.Typer(no_args_is_help=True, help="Findings of the daily checks, and corrections of readings.")

MAX_SHOWN = 20_000  # most corrections that one command shows

MetersOption = Annotated[list[str] | None, typer.Option("--meter", help="Only of this meter.")]
FromOption = Annotated[str | None, typer.Option("--from", help=f"Only from this moment on: {LOCAL_FORMS}.")]
ToOption = Annotated[str | None, typer.Option("--to", help="Only before this moment, in the same forms.")]
MethodOption = Annotated[
    str | None, typer.Option("--method", help="Only by this method: balance, interpolation, like-days, edit, register.")
]
WhyOption = Annotated[str, typer.Option("--why", help="The reason, kept with the decision.")]


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
            chosen = chosen_of(connection, meter, start, end, method)
            rows = summaries(found(connection, chosen, [*(state or [State.PROPOSED])], MAX_SHOWN + 1))
        show_rows("corrections", Summary, rows, as_json=as_json)
        if sum(len(row.numbers) for row in rows) > MAX_SHOWN:
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
            chosen = chosen_of(connection, [meter], start, end, None)
            rows = found(connection, chosen, list(State), MAX_SHOWN)
            steps = steps_of(connection, [row.no for row in rows])
        show_rows("corrections", Summary, summaries(rows), as_json=False)
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
    meter: MetersOption = None,
    start: FromOption = None,
    end: ToOption = None,
    method: MethodOption = None,
    why: WhyOption = "",
) -> None:
    """Approve proposed estimates: settlement takes them where a reading is missing.

    A reading that comes later counts in place of the estimate, by itself.

    Examples: `corrections approve --method balance`, `corrections approve --meter 10002 --from
    2026-11-01 --to 2026-11-04`.
    """
    _decide(config, Action.APPROVE, (meter, start, end, method), why)


@app.command()
@flowing
def refuse(
    config: ConfigOption,
    meter: MetersOption = None,
    start: FromOption = None,
    end: ToOption = None,
    method: MethodOption = None,
    why: WhyOption = "",
) -> None:
    """Refuse proposed estimates: the slots stay missing, and are not proposed again."""
    _decide(config, Action.REFUSE, (meter, start, end, method), why)


@app.command()
@flowing
def revert(
    config: ConfigOption,
    meter: MetersOption = None,
    start: FromOption = None,
    end: ToOption = None,
    method: MethodOption = None,
    why: WhyOption = "",
) -> None:
    """Take a decision back: estimates are proposed again, a person's values count no more.

    Where a person's value is taken back, the reading or the estimate that it replaced counts again.
    """
    _decide(config, Action.REVERT, (meter, start, end, method), why)


@app.command()
@flowing
def edit(
    config: ConfigOption,
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

    Example: `corrections edit --meter 10002 --from 2026-11-01T18:00 --to 2026-11-02 --energy 4.25 --why
    "meter stuck, reading by hand"`.
    """
    with errors_reported():
        new = {"meter": meter, "type": of, "start": start, "until": end, "energy_kwh": energy, "why": why}
        made = ask(config, "POST", "/corrections/edit", new)
    what = f"{counted(made['changed'], 'quarter-hour')} edited by {made['person']}"
    typer.echo(f"meter {meter}: {what}, {made['energy_mwh'] / 1e6:.3f} kWh")


@app.command()
@flowing
def findings(
    config: ConfigOption,
    meter: MetersOption = None,
    check: Annotated[Check | None, typer.Option("--check", help="Only of this check.")] = None,
    close: Annotated[list[int] | None, typer.Option("--close", help="Close finding NO, as yourself.")] = None,
    why: WhyOption = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="The most findings to show.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """Show the oldest open findings of the daily checks, or close some.

    A finding changes nothing that is billed: enter other values with `corrections edit`, or close it. Findings of gaps
    close by themselves when the readings come.

    Example: `corrections findings --close 17 --why "guests"`.
    """
    with errors_reported():
        if close:
            made = ask(config, "POST", "/findings/close", {"numbers": close, "why": why})
            typer.echo(f"{counted(made['changed'], 'finding')} closed by {made['person']}")
            return
        with from_file(config) as (database, _), database.reads.begin() as connection:
            numbers = None if not meter else [meter_number(connection, each) for each in meter]
            rows = checking.open_findings(connection, limit, numbers, check)
        show_rows("findings", Finding, rows, as_json=as_json)


def _decide(config: Path, action: Action, words: tuple[Any, ...], why: str) -> None:
    """Take a step with the chosen corrections in one transaction, and print what was changed."""
    with errors_reported():
        if not any(words):
            raise ConfigError(f"choose what to {action}: give --meter, --from and --to, or --method")
        chosen = dict(zip(("meters", "start", "until", "method"), words, strict=True))
        made = ask(config, "POST", "/corrections/decide", {"chosen": chosen, "action": action, "why": why})
        done = {Action.APPROVE: "approved", Action.REFUSE: "refused", Action.REVERT: "taken back"}[action]
    what = f"{counted(made['changed'], 'correction')} of {counted(made['meters'], 'meter')}"
    typer.echo(f"{what}, {made['energy_mwh'] / 1e6:.3f} kWh: {done} by {made['person']}")


def show_rows(title: str, model: type[BaseModel], rows: Sequence[BaseModel], *, as_json: bool) -> None:
    """Print the rows of a model as a table, or as JSON."""
    if as_json:
        typer.echo(json.dumps([plain(row) for row in rows], indent=1))
    else:
        show_table(title, [dict(cells(row)) for row in rows], [heading(column) for column in columns_of(model)])
