"""``commonwatt statistics``: usage by month, quarter, year and five years, and projections (U6)."""

import asyncio
from typing import Annotated

import typer

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.words import counted
from utility.jobs.calendar_periods import Period
from utility.jobs.store.job_leases import Turn
from utility.jobs.threads import HERE
from utility.statistics.jobs.statistics import take_in
from utility.statistics.months import Month
from utility.statistics.store.usage_due import mark_settled
from utility.webkit.cli.options import Commands, ConfigOption, day_option, from_file

app = Commands(help="Usage by month, quarter, year and five years, and what may come.", no_args_is_help=True)


@app.command()
def run(
    config: ConfigOption,
    first: Annotated[
        str | None, typer.Option("--from", help="Take this day and later ones in again; days of UTC.")
    ] = None,
    last: Annotated[str | None, typer.Option("--to", help="The last of these days.")] = None,
) -> None:
    """Take in now what was settled and is not in the statistics yet; the service does the same every hour."""
    months: set[Month] = set()

    with from_file(config) as (database, clock):
        now = int(clock.now())
        if first is not None:
            with database.writes.begin() as connection:
                until = now // 86_400 if last is None else day_option("--to", last)
                mark_settled(connection, day_option("--from", first), until)
        elif last is not None:
            raise ConfigError("--to: give --from too")
        turn = Turn(job="statistics", period=Period(start=now, end=now, name="now"), attempt=1, now=now)
        asyncio.run(take_in(database, HERE, turn, tell=months.add))
    typer.echo(f"{counted(len(months), 'month')} computed")
