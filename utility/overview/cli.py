"""``commonwatt utility jobs``: the utility's jobs, what a person may do with them, and requests without an answer."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import EpochSeconds
from utility.database.database import Database
from utility.jobs import store as listing
from utility.jobs.plans import Plan, minute_of, plan_of
from utility.webkit.cli import Commands, ConfigOption, from_file, load, local_actor

app = Commands(help="The utility's jobs: list, run now, pause, change.", no_args_is_help=True)

JobArgument = Annotated[str, typer.Argument(help="The job's name, or its name in the town's documents.")]


@app.command()
def run(name: JobArgument, config: ConfigOption) -> None:
    """Have the running service run a job now, within 15 s.

    A job of days or months is run for its oldest period that is over and not done.
    """
    with _opened(config, name) as (database, plan, now):
        typer.echo(listing.run_now(database, plan, local_actor(), now))


@app.command()
def pause(name: JobArgument, config: ConfigOption) -> None:
    """Pause a job until it is resumed; a run that has begun goes on. After a day an alert reminds of it."""
    with _opened(config, name) as (database, plan, now):
        listing.pause(database, plan, local_actor(), now)
        typer.echo(f"{plan.name} is paused")


@app.command()
def resume(name: JobArgument, config: ConfigOption) -> None:
    """End a pause; a job of days or months makes up for what it missed, in order."""
    with _opened(config, name) as (database, plan, now):
        listing.resume(database, plan, local_actor(), now)
        typer.echo(f"{plan.name} is resumed")


@app.command()
def change(
    name: JobArgument,
    config: ConfigOption,
    every_s: Annotated[
        int | None, typer.Option("--every-s", help="Seconds between two runs of a job that runs at an interval.")
    ] = None,
    at: Annotated[
        str | None, typer.Option("--at", help="Local time of day of a job of days or months, such as 02:30.")
    ] = None,
    reset: Annotated[bool, typer.Option("--reset", help="Put the job back to its plan and the settings file.")] = False,
) -> None:
    """Set a job's interval or its time of day; it holds from the next tick on, and over restarts.

    Examples: `jobs change compact --every-s 1800`, `jobs change backup --at 02:30`, `jobs change compact --reset`.
    """
    with _opened(config, name) as (database, plan, now):
        if reset == (every_s is not None or at is not None) or (every_s is not None and at is not None):
            raise ConfigError("give one of --every-s, --at and --reset")
        minute = None if at is None else minute_of(at)
        listing.change(database, plan, local_actor(), now, every_s=every_s, minute=minute)
        set_ = "as planned" if reset else f"at {at}" if at is not None else f"every {every_s} s"
        typer.echo(f"{plan.name} runs {set_}")


@contextmanager
def _opened(config: Path, name: str) -> Iterator[tuple[Database, Plan, EpochSeconds]]:
    plan = plan_of(load(config)[0], name)
    with from_file(config) as (database, clock):
        yield database, plan, int(clock.now())
