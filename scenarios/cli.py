"""``commonwatt scenario``: what a policy is worth to a town, in a week or a storm, with figures and plots."""

from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

import typer

from commonwatt.cli.options import Commands, show, shown_progress
from commonwatt.energy.simulation import changed
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import QUARTER_S, SLOT_S
from commonwatt.runtime.files import replace_file
from commonwatt.runtime.service import progress_bar
from commonwatt.town.loading import WHOLE_TOWN, load_town
from commonwatt.town.scenario import Conditions, Scenario, load, names
from commonwatt.town.town import Town
from scenarios.report import as_json, equal, table
from scenarios.simulation import emulated
from utility.supply.simulated import POLICIES
from utility.tariffs.tariff import read_tariff

app = Commands(no_args_is_help=True, help="Run a town through days of weather, faults and prices.")


_REFERENCES = ("none", "no-sharing")
_MOST_ROWS = 30  # most rows of a table of a replay; its files have all


@app.command("list")
def list_scenarios() -> None:
    """Show the scenarios and the policies that come with the program."""
    show("scenarios", [{"name": name, "what": load(name).title} for name in names()], ("name", "what"))
    show("policies", [{"name": name, "what": one.words} for name, one in POLICIES.items()], ("name", "what"))


@app.command()
def run(
    name: Annotated[str, typer.Argument(help="A scenario's name, see `scenario list`, or a TOML file.")] = "",
    days: Annotated[int | None, typer.Option(min=1, max=3660, help="Its length; else the scenario's own.")] = None,
    policy: Annotated[list[str] | None, typer.Option(help="A policy; several are compared. Default: spec.")] = None,
    town: Annotated[Path | None, typer.Option(help="The town file; else Centertown with its 802 microgrids.")] = None,
    step_s: Annotated[
        int, typer.Option("--step", min=SLOT_S, max=QUARTER_S, help="Seconds of a step: 15 to 900, a divisor of 900.")
    ] = QUARTER_S,
    out: Annotated[Path, typer.Option(help="Folder for the results, NAME.json.")] = Path(),
    readings: Annotated[
        tuple[datetime, datetime] | None,
        typer.Option(formats=["%Y-%m-%d"], metavar="FROM TO", help="Replay these stored days, of UTC: see below."),
    ] = None,
    config: Annotated[Path, typer.Option(help="Readings: the utility's file.")] = Path("utility.toml"),
    tariff: Annotated[Path | None, typer.Option(help="Readings: a tariff's file in place of the one in force.")] = None,
) -> None:
    """Run a scenario under one or more policies, and without control and without sharing beside them.

    Physics, sharing, rationing and purchases are those of the services, without messages between them. The same
    command gives the same files, to the byte.

    Examples: `scenario run storm`, `scenario run heatwave --policy aces --policy rangers --policy planner`.

    With `--readings` the town's own stored days run again beside what was: with the one policy, and with the outages,
    storms, demand and batteries of the scenario, whose start and days do not count. Without a scenario nothing else
    changes. Days that differ by more than 1 % from what was settled are left out by name.
    """
    if readings:
        _run_stored(name, readings, (policy or ["spec"])[0], config, tariff, out)
        return
    if not name:
        raise ConfigError("NAME: give a scenario, see `scenario list`; only --readings needs none")
    chosen = list(dict.fromkeys([*_REFERENCES, *(policy or ["spec"])]))
    if unknown := [p for p in chosen if p not in POLICIES]:
        raise ConfigError(f"--policy {unknown[0]}: there are {', '.join(POLICIES)}")
    if QUARTER_S % step_s or step_s % SLOT_S:
        raise ConfigError(f"--step {step_s}: a multiple of {SLOT_S} that {QUARTER_S} is a multiple of")
    _run_policies(name, days, load_town(town or WHOLE_TOWN), chosen, step_s, out)


def _run_policies(name: str, days: int | None, town: Town, policies: Sequence[str], step_s: int, out: Path) -> None:
    """Run a scenario under policies; write their figures to files, and show them."""
    scenario, zone = load(name), ZoneInfo(town.table.timezone)
    town = changed(town, scenario)
    conditions = Conditions(scenario=scenario, zone=zone, seed=town.table.seed)
    runs = {}
    with progress_bar() as progress:
        for each in policies:
            task = progress.add_task(each, total=1.0)
            simulation = emulated(town, conditions, POLICIES[each], step_s)
            runs[each] = simulation.run(days, lambda part, task=task: progress.update(task, completed=part))  # type: ignore[misc]
    facts = {
        "town": town.table.name,
        "microgrids": len(town.microgrids),
        "start": str(scenario.start),
        "days": days or scenario.days,
        "step_s": step_s,
        "version": version("commonwatt"),
    }
    stem = Path(name).stem
    out.mkdir(parents=True, exist_ok=True)
    replace_file(out / f"{stem}.json", as_json(scenario.title, runs, facts).encode(), mode=0o644)
    rows = table(runs)
    show(scenario.title, rows, tuple(rows[0]))
    typer.echo("".join(f"{sentence}\n" for sentence in equal(runs)), nl=False)
    typer.echo("cost: MWh at the price outside peak hours, less what the town's battery has gained")
    typer.echo(f"energy balance, and the town hour by hour: {out / f'{stem}.json'}")


def _run_stored(
    name: str, days: tuple[datetime, datetime], policy: str, config: Path, tariff: Path | None, out: Path
) -> None:
    """Replay stored days; write what they would have been to files, and show it."""
    # They open the utility's database, which no other command here does.
    from utility.replay.decisions import replay
    from utility.webkit.cli import from_file
    from utility.webkit.cli import load as settings_of

    start, end = (each.date() for each in days)
    if end < start:
        raise ConfigError(f"--readings {start} {end}: the second day is before the first")
    scenario = load(name) if name else Scenario(title="Our own days again", start=start)
    scenario = scenario.model_copy(update={"start": start, "start_hour": 0, "days": (end - start).days + 1})
    other, default = None if tariff is None else read_tariff(tariff), settings_of(config)[0].billing.tariff
    with from_file(config) as (database, _), shown_progress(scenario.title, 100.0) as tell:
        found = replay(database, scenario, policy, other, default, tell)
    facts = {"from": str(start), "to": str(end), "version": version("commonwatt"), **found.near}
    tables = {what: [row.model_dump(mode="json") for row in rows] for what, rows in found.tables.items()}
    stem = Path(name or "readings").stem
    out.mkdir(parents=True, exist_ok=True)
    content = as_json(scenario.title, found.runs, facts | tables)
    replace_file(out / f"{stem}.json", content.encode(), mode=0o644)
    for what, rows in {scenario.title: table(found.runs), **tables}.items():
        if rows:
            show(what, rows[:_MOST_ROWS], tuple(rows[0]))
    typer.echo(", ".join(f"{key.replace('_', ' ')} {value}" for key, value in found.near.items()))
