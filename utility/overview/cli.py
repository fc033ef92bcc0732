"""``commonwatt utility jobs``: the utility's jobs, what a person may do with them, and requests without an answer."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from commonwatt.cli.dead_letter_options import JsonOption, LimitOption
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import EpochSeconds
from commonwatt.runtime.service import flowing
from utility.database.database import Database
from utility.jobs.catalogue import catalogue, plan_of
from utility.jobs.plans import Plan, minute_of
from utility.jobs.store import listing
from utility.jobs.store.job_leases import newest_periods
from utility.jobs.store.listing import Listed
from utility.overview.store.job_previews import preview
from utility.readings.columns import Request
from utility.readings.store.requests import unanswered
from utility.webkit.cli.listing import print_rows
from utility.webkit.cli.options import ConfigOption, from_file, load, local_actor, reading

app = typer.Typer(help="The utility's jobs: list, run now, pause, change, dry run.", no_args_is_help=True)

JobArgument = Annotated[str, typer.Argument(help="The job's name, or its name in the town's documents.")]


@app.command("list")
@flowing
def list_command(config: ConfigOption, as_json: JsonOption = False) -> None:
    """Show the jobs: state, how often each runs, its next and last run, how long that took, and its last error.

    `due`: the next tick does it, within 15 s. `running`: an attempt is at work. `waiting`: a period can't be done yet,
    such as a month whose readings may still come. `failed`: the last attempt failed, or its process died; it is tried
    again by itself. `paused`: a person paused it. `behind`: periods that are due and not done.
    """
    with from_file(config) as (database, clock):
        rows = listing.listed(database, catalogue(load(config)[0]), int(clock.now()))
    print_rows("jobs", rows, as_json=as_json, shown=_shown)


@app.command()
@flowing
def periods(config: ConfigOption, limit: LimitOption = 50, as_json: JsonOption = False) -> None:
    """Show the periods of the jobs: first those that are not done, then the newest that are."""
    with reading(config) as (connection, now):
        rows = newest_periods(connection, limit, now)
    columns = ("job", "period", "state", "attempts", "due", "done", "took_ms", "why")
    print_rows("periods", rows, columns, as_json=as_json)


@app.command()
@flowing
def run(name: JobArgument, config: ConfigOption) -> None:
    """Have the running service run a job now, within 15 s.

    A job of days or months is run for its oldest period that is over and not done.
    """
    with _opened(config, name) as (database, plan, now):
        typer.echo(listing.run_now(database, plan, local_actor(), now))


@app.command()
@flowing
def pause(name: JobArgument, config: ConfigOption) -> None:
    """Pause a job until it is resumed; a run that has begun goes on. After a day an alert reminds of it."""
    with _opened(config, name) as (database, plan, now):
        listing.pause(database, plan, local_actor(), now)
        typer.echo(f"{plan.name} is paused")


@app.command()
@flowing
def resume(name: JobArgument, config: ConfigOption) -> None:
    """End a pause; a job of days or months makes up for what it missed, in order."""
    with _opened(config, name) as (database, plan, now):
        listing.resume(database, plan, local_actor(), now)
        typer.echo(f"{plan.name} is resumed")


@app.command()
@flowing
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


@app.command()
@flowing
def dry_run(name: JobArgument, config: ConfigOption) -> None:
    """Show what a job would do now; nothing is changed."""
    with _opened(config, name) as (database, plan, now):
        for line in preview(database, load(config)[0], plan.name, now):
            typer.echo(line)


@app.command()
@flowing
def requests(config: ConfigOption, limit: LimitOption = 50, as_json: JsonOption = False) -> None:
    """Show requests to gateways that failed or have no answer yet, oldest first, each with the time when it expires.

    `command`: a command to a gateway. `readings`: missing readings of a microgrid, which are asked for again and again.
    """
    with reading(config) as (connection, now):
        rows = unanswered(connection, now, limit)
    columns = ("start", "microgrid", "kind", "what", "state", "expires")
    print_rows("requests", rows, columns, as_json=as_json, shown=_request_row)


@contextmanager
def _opened(config: Path, name: str) -> Iterator[tuple[Database, Plan, EpochSeconds]]:
    plan = plan_of(load(config)[0], name)
    with from_file(config) as (database, clock):
        yield database, plan, int(clock.now())


def _request_row(row: Request) -> dict[str, object]:
    state = f"{row.state}: {row.reason}" if row.reason else row.state
    return dict(row) | {"start": row.since, "state": state}


def _shown(row: Listed) -> dict[str, object]:
    return {
        "job": row.name,
        "every": f"{row.every}, {row.at}" if row.at else row.every,
        "state": f"{row.state}, late" if row.late_s else row.state,
        "behind": row.open or "",
        "next_time": row.next_due,
        "done": row.done,
        "took": "" if row.took_ms is None else f"{row.took_ms / 1000:,.1f} s",
        "last error or reason to wait": row.waits_for or row.error or "",
    }
