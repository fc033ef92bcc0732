"""``commonwatt corrections``: what the checks found, proposed estimates, and what people decide on them."""

from typing import Annotated

import typer

from commonwatt.model.calendar import LOCAL_FORMS
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.text import counted
from utility.corrections.correction import Action
from utility.webkit.cli import Commands, ConfigOption, ask

app = Commands(no_args_is_help=True, help="Findings of the daily checks, and corrections of readings.")

MetersOption = Annotated[list[str] | None, typer.Option("--meter", help="Only of this meter.")]
FromOption = Annotated[str | None, typer.Option("--from", help=f"Only from this moment on: {LOCAL_FORMS}.")]
ToOption = Annotated[str | None, typer.Option("--to", help="Only before this moment, in the same forms.")]
MethodOption = Annotated[
    str | None, typer.Option("--method", help="Only by this method: balance, interpolation, like-days, edit, register.")
]
WhyOption = Annotated[str, typer.Option("--why", help="The reason, kept with the decision.")]


def _decision(action: Action, done: str, about: str) -> None:
    """Add the command that takes a step with all chosen corrections in one transaction."""

    @app.command(action, help=about)
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
def edit(
    config: ConfigOption,
    meter: Annotated[str, typer.Option("--meter", help="The meter.")],
    start: Annotated[str, typer.Option("--from", help=f"The first moment: {LOCAL_FORMS}.")],
    end: Annotated[str, typer.Option("--to", help="The moment after the last, in the same forms.")],
    why: Annotated[str, typer.Option("--why", help="The reason, kept with the values.")],
    energy: Annotated[
        str | None,
        typer.Option("--energy", help="Energy of the period, kWh; the default is the energy of similar days."),
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
def close(
    numbers: Annotated[list[int], typer.Argument(metavar="NO", help="The findings; see: commonwatt show findings")],
    config: ConfigOption,
    why: WhyOption = "",
) -> None:
    """Close findings of the daily checks, as yourself. A finding changes nothing that is billed.

    Enter other values with `corrections edit`. Findings of gaps close by themselves when the readings come.

    Example: `corrections close 17 --why "guests"`.
    """
    made = ask(config, "POST", "/findings/close", {"numbers": numbers, "why": why})
    typer.echo(f"{counted(made['changed'], 'finding')} closed by {made['person']}")
