"""``commonwatt settlement``: settle days."""

import asyncio
from typing import Annotated

import typer

from commonwatt.cli.options import shown_progress
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.text import counted, moment
from utility.database.metrics import Metrics
from utility.jobs.plans import HERE, Period, Why
from utility.jobs.store import Turn, mark
from utility.jobs.tables import settlement_due
from utility.registry.layout import Day
from utility.settlement.jobs import SettlementJob
from utility.settlement.metrics import SettlementMetrics
from utility.settlement.store.readings import owners
from utility.webkit.cli import Commands, ConfigOption, day_option, load, opened, place_of_database

app = Commands(
    help="Settled quarter-hours: what each meter exchanged with the town and with its microgrid.",
    no_args_is_help=True,
)

FromOption = Annotated[str | None, typer.Option("--from", help="First day, such as 2026-10-01; days of UTC.")]
ToOption = Annotated[str | None, typer.Option("--to", help="Last day.")]


@app.command()
def run(config: ConfigOption, first: FromOption = None, last: ToOption = None) -> None:
    """Settle now every finished day that is due; the service does the same every 15 minutes.

    --from settles days again, those whose readings came before there was a settlement too; a meter's day with the same
    content makes no new version. The service may run at the same time, and a stopped run goes on where it was.

    Examples: `settlement run`, `settlement run --from 2026-10-01 --to 2026-10-31`.
    """
    settings, clock = load(config)
    now = int(clock.now())
    with (
        opened(settings.database, create=False, named=place_of_database(config)) as database,
        shown_progress("settlement", 1.0) as show,
    ):
        if first is not None:
            with database.writes.begin() as connection:
                marks = [(day, number) for day in _days(first, last, now) for number in owners(connection)]
                mark(connection, settlement_due, marks, Why.PERSON)
        elif last is not None:
            raise ConfigError("--to: give --from too")
        metrics = Metrics()

        def tell(day: Day, part: float) -> None:
            show(part, what=moment(day * 86_400)[:10])

        job = SettlementJob(
            settings.settlement, database, SettlementMetrics(metrics), HERE, is_trusted=lambda: True, tell=tell
        )
        period = Period(start=now, end=now, name="now")
        asyncio.run(job.run(Turn(job="settlement", period=period, attempt=1, now=now)))
        made = int(metrics.registry.get_sample_value("commonwatt_utility_settled_versions_total") or 0)
    typer.echo(f"{counted(made, 'new version')} of meters' days")


def _days(first: str | None, last: str | None, now: int) -> range:
    """Return the days that the options name; without any, yesterday."""
    yesterday = now // 86_400 - 1
    begin = yesterday if first is None else day_option("--from", first)
    end = (begin if first is None else yesterday) if last is None else day_option("--to", last)
    if end < begin:
        raise ConfigError(f"--to {last}: is before --from")
    return range(begin, end + 1)
