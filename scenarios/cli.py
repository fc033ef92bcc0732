"""``commonwatt scenario``: what a policy is worth to a town, in a week or a storm, with figures and plots."""

from importlib.metadata import version
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

import typer
from rich.console import Console
from rich.progress import Progress

from commonwatt.cli.tables import show
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import QUARTER_S, SLOT_S
from commonwatt.runtime.files import replace_file
from commonwatt.runtime.service import errors_reported, flowing
from commonwatt.town.conditions import Conditions
from commonwatt.town.scenario import FOLDER, load, names
from commonwatt.town.town import load_town
from scenarios.against import rows as rows_against
from scenarios.policies import POLICIES
from scenarios.report import as_html, as_json, table
from scenarios.simulation import run as simulate

app = typer.Typer(no_args_is_help=True, help="Run a town through days of weather, faults and prices.")

TOWN = FOLDER / "town" / "centertown.toml"
"""The whole town: 802 microgrids."""

_REFERENCES = ("none", "no-sharing")


@app.command("list")
def list_scenarios() -> None:
    """Show the scenarios and the policies that come with the program."""
    show("scenarios", [{"name": name, "what": load(name).title} for name in names()], ("name", "what"))
    show("policies", [{"name": name, "what": one.words} for name, one in POLICIES.items()], ("name", "what"))


@app.command()
@flowing
def run(
    name: Annotated[str, typer.Argument(help="A scenario's name, see `scenario list`, or a TOML file.")],
    days: Annotated[int | None, typer.Option(min=1, max=3660, help="Its length; else the scenario's own.")] = None,
    policy: Annotated[list[str] | None, typer.Option(help="A policy; several are compared. Default: spec.")] = None,
    against: Annotated[str | None, typer.Option(help="Also show all differences to this policy.")] = None,
    town: Annotated[Path | None, typer.Option(help="The town file; else Centertown with its 802 microgrids.")] = None,
    step_s: Annotated[
        int, typer.Option("--step", min=SLOT_S, max=QUARTER_S, help="Seconds of a step: 15 to 900, a divisor of 900.")
    ] = QUARTER_S,
    out: Annotated[Path, typer.Option(help="Folder for the results, NAME.json and NAME.html.")] = Path(),
) -> None:
    """Run a scenario under one or more policies, and without control and without sharing beside them.

    Physics, sharing, rationing and purchases are those of the services, without messages between them. The same
    command gives the same files, to the byte.

    Examples: `scenario run storm`, `scenario run heatwave --policy aces --policy rangers --policy planner`,
    `scenario run change --policy planner --against aces`.
    """
    with errors_reported():
        asked = [*(policy or ["spec"]), *([against] if against else [])]
        chosen = list(dict.fromkeys([*_REFERENCES, *asked]))
        if unknown := [p for p in chosen if p not in POLICIES]:
            option = "--policy" if unknown[0] in (policy or []) else "--against"
            raise ConfigError(f"{option} {unknown[0]}: there are {', '.join(POLICIES)}")
        if QUARTER_S % step_s or step_s % SLOT_S:
            raise ConfigError(f"--step {step_s}: a multiple of {SLOT_S} that {QUARTER_S} is a multiple of")
        scenario, it = load(name), load_town(town or TOWN)
        zone = ZoneInfo(it.table.timezone)
        conditions = Conditions(scenario=scenario, zone=zone, seed=it.table.seed)
        runs = {}
        with Progress(console=Console(stderr=True), transient=True) as progress:
            for each in chosen:
                task = progress.add_task(each, total=1.0)
                runs[each] = simulate(
                    it,
                    conditions,
                    POLICIES[each],
                    days=days,
                    step_s=step_s,
                    tell=lambda part, task=task: progress.update(task, completed=part),  # type: ignore[misc]
                )
        facts = {
            "town": it.table.name,
            "microgrids": len(it.microgrids),
            "start": str(scenario.start),
            "days": days or scenario.days,
            "step_s": step_s,
            "version": version("commonwatt"),
        }
        stem = Path(name).stem
        out.mkdir(parents=True, exist_ok=True)
        replace_file(out / f"{stem}.json", as_json(scenario.title, runs, facts, against).encode(), mode=0o644)
        replace_file(out / f"{stem}.html", as_html(scenario.title, runs, facts, zone, against).encode(), mode=0o644)
        rows = table(runs)
        show(scenario.title, rows, tuple(rows[0]))
        if against and (rows := rows_against(runs, against)):
            show(f"against {against}", rows, tuple(rows[0]))
        typer.echo("cost: MWh at the price outside peak hours, less what the town's battery has gained")
        typer.echo(f"plots: {out / f'{stem}.html'}")
