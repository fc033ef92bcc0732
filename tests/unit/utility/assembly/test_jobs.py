import asyncio
import math
import shutil
import threading
from pathlib import Path

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError

from commonwatt.config.utility import UtilitySettings
from commonwatt.model.disk_space import LOW_BYTES
from commonwatt.model.time.now import Trust
from commonwatt.runtime.clock import Clock
from commonwatt.runtime.systemd import Notifier
from commonwatt.runtime.watchdog import Watchdog
from harness.network.waiting import become
from harness.surroundings.sent import append, blocks
from harness.surroundings.utility import ingest_of
from utility.assembly import jobs as table
from utility.assembly.jobs import Jobs
from utility.assembly.metrics import UtilityMetrics
from utility.database.database import Database
from utility.database.health import Health
from utility.jobs.calendar_periods import LocalDay
from utility.jobs.tables import period
from utility.outbox.store.commands import open_commands
from utility.readings.ingest.ingest import Ingest
from utility.readings.store import gap_finder
from utility.readings.store.compactor import Compactor
from utility.readings.store.writer import Writer
from utility.readings.tables import compacted

QUARTER = 2_000_000
NOW = (QUARTER + 4) * 900
HOUSEKEEPING = period.c.job != "bills"  # jobs that run for the present period only
TODAY = LocalDay().period_at(NOW).start
CLOCK = Clock(origin=NOW, monotonic_origin=0, speed=0)


def tick(
    database: Database,
    times: int = 1,
    trust: Trust = Trust.NETWORK,
    settings: UtilitySettings | None = None,
    health: Health | None = None,
) -> UtilityMetrics:
    async def play() -> UtilityMetrics:
        metrics = UtilityMetrics()
        ingest = ingest_of(database, CLOCK, metrics=metrics, health=health, trust=trust)
        jobs = Jobs(settings or UtilitySettings(), database, CLOCK, ingest, metrics)
        try:
            for _ in range(times):
                await jobs.tick()
        finally:
            jobs.close()
            ingest.close()
        return metrics

    return asyncio.run(play())


PERIODS = {
    "balance": NOW,
    "completeness": NOW - NOW % 3600,
    "compact": NOW,
    "gaps": NOW,
    "projection": TODAY,
    "rates": NOW,
    "retention": NOW - NOW % 3600,
    "rollout": NOW,
    "settlement": NOW,
    "sharing": NOW,
    "spared": NOW,
    "statistics": NOW - NOW % 3600,
    "validation": NOW - NOW % 3600,
    "weights": NOW,
    "witnesses": NOW,
}
"""The start of each job's period at ``NOW``."""


def done(database: Database) -> dict[str, int]:
    """Return the start of the last period that is done, by job of housekeeping."""
    with database.reads.begin() as connection:
        statement = select(period.c.job, func.max(period.c.start)).where(period.c.done.is_not(None), HOUSEKEEPING)
        return {row.job: row[1] for row in connection.execute(statement.group_by(period.c.job))}


def test_missing_slots_are_searched_but_not_requested_while_messages_wait_for_the_database(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is missing may be among them; when they are through, it is requested."""
    Writer(database).commit([append(blocks({0: 1}))])
    for queue_s, commands in ((61.0, 0), (60.0, 1)):
        monkeypatch.setattr(Ingest, "queue_s", queue_s)
        shift(database, -900)
        metrics = tick(database)
        assert metrics.registry.get_sample_value("commonwatt_utility_gaps_open_blocks") == 2
        with database.reads.begin() as connection:
            assert len(open_commands(connection)) == commands


def shift(database: Database, by_s: int) -> None:
    """Have the periods that are there be others."""
    with database.writes.begin() as connection:
        shifted = period.update().where(HOUSEKEEPING)
        connection.execute(shifted.values(start=period.c.start + by_s, until=period.c.until + by_s))


def test_tick_does_each_job_once_in_its_period(database: Database) -> None:
    Writer(database).commit([append(blocks({0: 1})), append(blocks({1: 1}))])
    metrics = tick(database, times=3)
    assert metrics.registry.get_sample_value("commonwatt_utility_compacted_blocks_total") == 1
    assert metrics.registry.get_sample_value("commonwatt_utility_gaps_open_blocks") == 2
    with database.reads.begin() as connection:
        assert connection.execute(select(func.count()).select_from(compacted)).scalar() == 1
        assert len(open_commands(connection)) == 1
    assert done(database) == PERIODS


def test_a_utility_that_was_off_for_a_week_keeps_house_once(database: Database) -> None:
    tick(database)
    shift(database, -7 * 86_400)
    Writer(database).commit([append(blocks({0: 1}))])
    metrics = tick(database, times=3)
    with database.reads.begin() as connection:
        rows = connection.execute(select(period.c.job, period.c.start, period.c.attempts).where(HOUSEKEEPING)).all()
    assert set(map(tuple, rows)) == {*((job, start, 1) for job, start in PERIODS.items()), ("reminders", TODAY, 0)}
    assert len(rows) == len(PERIODS) + 1
    assert metrics.registry.get_sample_value("commonwatt_utility_compacted_blocks_total") == 1
    assert metrics.registry.get_sample_value("commonwatt_utility_job_periods_overdue", {"task": "compact"}) == 0


def test_a_long_search_for_gaps_lets_other_jobs_come_between(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gap_finder, "MAX_SCANNED", 5)
    monkeypatch.setattr(table, "MAX_SEARCHES", 3)
    Writer(database).commit([append(blocks({0: 1}, quarter=QUARTER - 98))])
    for searched in (15, 30, 45):
        metrics = tick(database)
        assert metrics.registry.get_sample_value("commonwatt_utility_gaps_open_blocks") == searched
        shift(database, -900)


def test_what_the_database_holds_is_counted_soon_after_a_start_though_the_jobs_are_done(database: Database) -> None:
    Writer(database).commit([append(blocks({0: 1, 1: 5})), append(blocks({0: 2}))])
    names = ("conflicting_slots", "gaps_open_blocks", "quarantined_open_dead_letters")
    first = [tick(database).registry.get_sample_value(f"commonwatt_utility_{name}") for name in names]
    assert first == [1, 2, 0]
    assert [tick(database).registry.get_sample_value(f"commonwatt_utility_{name}") for name in names] == first
    unknown = UtilityMetrics().registry.get_sample_value("commonwatt_utility_conflicting_slots")
    assert unknown is not None
    assert math.isnan(unknown), "0 would be a lie, and its end an alarm"


def test_jobs_go_on_after_the_clock_was_once_ahead(database: Database) -> None:
    tick(database)
    shift(database, 960 * 900)
    Writer(database).commit([append(blocks({0: 1}))])
    metrics = tick(database, times=2)
    assert metrics.registry.get_sample_value("commonwatt_utility_compacted_blocks_total") == 1
    assert done(database) == PERIODS


def test_job_that_failed_is_done_by_the_next_tick(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    Writer(database).commit([append(blocks({0: 1}))])
    with monkeypatch.context() as patched:

        def fail(*_: object) -> None:
            raise OperationalError("SELECT", {}, Exception("disk I/O error"))

        patched.setattr(Compactor, "plan", fail)
        metrics = tick(database)
        for name in ("job_failures_total", "job_periods_overdue", "job_periods_failed"):
            assert metrics.registry.get_sample_value(f"commonwatt_utility_{name}", {"task": "compact"}) == 1
    assert tick(database).registry.get_sample_value("commonwatt_utility_compacted_blocks_total") == 1


def test_a_job_that_hangs_is_seen_by_a_watchdog(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = threading.Event()

    def hang(*_: object) -> None:
        assert answers.wait(60)

    async def play() -> None:
        ingest = ingest_of(database, CLOCK)
        jobs = Jobs(UtilitySettings(), database, CLOCK, ingest, UtilityMetrics())
        watchdog = Watchdog(Notifier({}), look_every_s=0.01, stuck_after_s=0.1, end_after_s=3600)
        watchdog.watch("jobs", jobs.reading.mark)
        async with watchdog.watching():
            ticking = asyncio.create_task(jobs.tick())
            await become(lambda: watchdog.stuck["jobs"])
            answers.set()
            await ticking
        assert jobs.reading.mark() is None
        jobs.close()
        ingest.close()

    monkeypatch.setattr(Compactor, "plan", hang)
    asyncio.run(play())


def test_old_months_are_dropped_only_by_a_clock_that_is_trusted(database: Database) -> None:
    Writer(database).commit([append(blocks({0: 1}, quarter=quarter)) for quarter in (QUARTER - 96 * 62, QUARTER)])
    left = []
    for trust in (Trust.NONE, Trust.NETWORK):
        shift(database, -86_400)
        tick(database, trust=trust, settings=UtilitySettings(keep_months=1))
        with database.reads.begin() as connection:
            left.append(connection.execute(select(func.count()).select_from(compacted)).scalar_one())
    assert left == [2, 1]


def test_on_a_full_disk_only_that_is_done_which_makes_room(database: Database, tmp_path: Path) -> None:
    writer = Writer(database)
    writer.commit([append(blocks({0: 1}, quarter=quarter)) for quarter in (QUARTER - 96 * 62, QUARTER - 1)])
    tick(database)
    writer.commit([append(blocks({0: 1}))])
    full = Health(tmp_path / "utility.db")
    full.look(LOW_BYTES - 1 - shutil.disk_usage(tmp_path).free)
    assert full.alarms() == ["disk_full"]
    shift(database, -86_400)
    tick(database, settings=UtilitySettings(keep_months=1), health=full)
    with database.reads.begin() as connection:
        assert connection.execute(select(compacted.c.quarter)).scalars().all() == [QUARTER - 1]
    assert [done(database)[job] for job in ("compact", "gaps")] == [NOW - 86_400] * 2
