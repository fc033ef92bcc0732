"""``commonwatt corrections``: what the checks found, proposed estimates, and what people decide on them."""

from typing import Annotated

import typer

from commonwatt.cli.dead_letter_options import JsonOption
from commonwatt.cli.tables import show as show_table
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.records import RecordType
from commonwatt.model.time.times import LOCAL_FORMS
from commonwatt.model.units import QUARTER_S
from commonwatt.model.words import counted, moment
from commonwatt.runtime.service import flowing
from commonwatt.settlement.validation.day import Check
from utility.corrections.columns import Finding, Summary
from utility.corrections.decisions import chosen_of, lines_around
from utility.corrections.lifecycle import Action, State
from utility.corrections.plot import plot
from utility.corrections.store.corrections import found, steps_of
from utility.corrections.summaries import step_lines, summaries
from utility.webkit.cli.listing import print_rows, rows_from
from utility.webkit.cli.options import ConfigOption, from_file, load, reading
from utility.webkit.cli.service import ask

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
    with reading(config) as (connection, _):
        chosen = chosen_of(connection, meter, start, end, method)
        rows = summaries(found(connection, chosen, [*(state or [State.PROPOSED])], MAX_SHOWN + 1))
    print_rows("corrections", rows, Summary, as_json=as_json)
    if sum(len(row.numbers) for row in rows) > MAX_SHOWN:
        typer.echo(f"more than {MAX_SHOWN} quarter-hours: only the first are shown; choose with --meter, --from, --to")


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
    with from_file(config) as (database, _):
        settings, _ = load(config)
        with database.reads.begin() as connection:
            chosen = chosen_of(connection, [meter], start, end, None)
            rows = found(connection, chosen, list(State), MAX_SHOWN)
            steps = steps_of(connection, [row.no for row in rows])
        print_rows("corrections", summaries(rows), Summary)
        for kind in sorted({row.record_type for row in rows}):
            of = [row for row in rows if row.record_type == kind]
            typer.echo(f"\n{RecordType(kind).name.lower()}, from {moment(of[0].quarter * QUARTER_S)}")
            for line in plot(lines_around(database, settings.validation, of)[1]):
                typer.echo(line)
        typer.echo("")
        show_table("steps", step_lines(steps), ("time", "person", "from", "to", "quarter-hours", "why"))


def _decision(action: Action, done: str, about: str) -> None:
    """Add the command that takes a step with all chosen corrections in one transaction."""

    @app.command(action, help=about)
    @flowing
    def decide(
        config: ConfigOption,
        meter: MetersOption = None,
        start: FromOption = None,
        end: ToOption = None,
        method: MethodOption = None,
        why: WhyOption = "",
    ) -> None:
        chosen = {"meters": meter, "start": start, "until": end, "method": method}
        if not any(chosen.values()):
            raise ConfigError(f"choose what to {action}: give --meter, --from and --to, or --method")
        made = ask(config, "POST", "/corrections/decide", {"chosen": chosen, "action": action, "why": why})
        what = f"{counted(made['changed'], 'correction')} of {counted(made['meters'], 'meter')}"
        typer.echo(f"{what}, {made['energy_mwh'] / 1e6:.3f} kWh: {done} by {made['person']}")


_decision(Action.APPROVE, "approved", """Approve proposed estimates: settlement takes them where a reading is missing.

A reading that comes later counts in place of the estimate, by itself.

Examples: `corrections approve --method balance`, `corrections approve --meter 10002 --from 2026-11-01 --to 2026-11-04`.
""")  # fmt: skip
_decision(Action.REFUSE, "refused", "Refuse proposed estimates: the slots stay missing, and are not proposed again.")
_decision(Action.REVERT, "taken back", """\
Take a decision back: estimates are proposed again, a person's values count no more.

Where a person's value is taken back, the reading or the estimate that it replaced counts again.
""")  # fmt: skip


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
    if close:
        made = ask(config, "POST", "/findings/close", {"numbers": close, "why": why})
        typer.echo(f"{counted(made['changed'], 'finding')} closed by {made['person']}")
        return
    rows = rows_from(config, "/findings", Finding, meter=meter, check=check, limit=limit)
    print_rows("findings", rows, Finding, as_json=as_json)
