"""``python -m harness.full_stack storm --speed 120``: plays a scenario on the processes of a small town."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from commonwatt.audit.command import table_of
from commonwatt.cli.tables import show
from commonwatt.demo.running import stopped_by_signals
from commonwatt.model.exceptions import ConfigError
from commonwatt.runtime.files import replace_file
from commonwatt.runtime.interrupts import EXIT_STOPPED
from commonwatt.runtime.service import EXIT_FAILED, only_one
from commonwatt.town.scenario import load
from harness.full_stack.course import as_json, tables
from harness.full_stack.play import play, ready
from harness.real.demonstration import main as forking


def run(
    name: Annotated[str, typer.Argument(help="A scenario's name, see `commonwatt scenario list`, or a TOML file.")],
    days: Annotated[int | None, typer.Option(help="Days from its start; else around its faults.")] = None,
    town: Annotated[Path | None, typer.Option(help="The town file; else the demonstration's.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the result, NAME-full-stack.json.")] = Path(),
    speed: Annotated[float, typer.Option(min=1, max=600, help="Town seconds in one real second.")] = 60,
    data: Annotated[Path, typer.Option(help="New folder for all data of the processes.")] = Path("data"),
) -> None:
    """Play a scenario on real processes, show what was seen, and exit with 1 if it is not good.

    Real brokers, gateways, meters and the utility play it on a scaled clock, from half an hour before its first fault
    to an hour after its last, or its first day: dead feeders make islands, without broadband or controllers processes
    stay dead. At the end every reading is audited.
    """
    scenario = load(name)
    with only_one(data, "another demonstration"), Progress(console=Console(stderr=True), transient=True) as progress:
        try:
            layout, conditions = ready(data, town, scenario, speed, days)
        except ConfigError as error:
            typer.echo(error, err=True)
            raise SystemExit(2) from error
        task = progress.add_task(f"{name} on {len(layout.processes)} processes", total=1.0)
        with stopped_by_signals() as stop:
            course = play(layout, conditions, stop, lambda part: progress.update(task, completed=part))
    if stop.is_set():
        typer.echo("stopped before its end", err=True)
        raise SystemExit(EXIT_STOPPED)
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{Path(name).stem}-full-stack.json"
    facts = {"town": layout.town.table.name, "speed": speed}
    replace_file(path, as_json(scenario.title, course, facts).encode(), mode=0o644)
    for title, rows in tables(course).items():
        if rows:
            show(title, rows, tuple(rows[0]))
    Console().print(table_of(course.audit, by_meter=False))
    typer.echo(f"{'good' if course.good else 'NOT GOOD'}: {path}")
    if not course.good:
        raise SystemExit(EXIT_FAILED)


if __name__ == "__main__":
    forking(lambda: typer.run(run))
