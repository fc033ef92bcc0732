"""Two schedules on one database stand for two processes; what one of them did when it died stays, and nothing else."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, select
from sqlalchemy.exc import OperationalError

from commonwatt.runtime.clock import Clock
from harness.commands import shown
from harness.network.waiting import become
from harness.real import databases
from utility.database.database import Database
from utility.jobs import runner
from utility.jobs.calendar_periods import Seconds
from utility.jobs.plans import Plan
from utility.jobs.runner import MAX_AT_ONCE, Job, Schedule
from utility.jobs.store.job_leases import LEASE_S, LeaseLostError, Turn, mark_done, newest_periods, renew, take
from utility.jobs.tables import period

kind = databases.both_kinds

HOUR = 3_600
FIRST = 500_000 * HOUR
BILLS = Plan(name="bills", does="", cadence=Seconds(HOUR), catch_up=True)
RESULT = Table("result", MetaData(), Column("no", Integer, primary_key=True), Column("start", Integer))


@dataclass
class Process:
    """What one process has: a clock, and a schedule of one job, ``write``, that adds a row for each hour."""

    database: Database
    clock: Clock
    catch_up: bool = True
    failures: list[Exception] = field(default_factory=list)  # what its attempts failed by
    before: Callable[[Turn], Awaitable[object]] | None = None  # done by the job before it writes its result

    def __post_init__(self) -> None:
        plan = Plan(name="bills", does="", cadence=Seconds(HOUR), catch_up=self.catch_up)
        self.schedule = Schedule(
            table=(Job(plan=plan, run=self.write),),
            database=self.database,
            clock=self.clock,
            in_thread=self._in_thread,
            failed=lambda _, error: self.failures.append(error),
        )

    async def _in_thread(self, work: Callable[..., object], *arguments: object) -> Any:
        return await asyncio.to_thread(work, *arguments)

    async def write(self, turn: Turn) -> None:
        if self.before is not None:
            await self.before(turn)
        with self.database.writes.begin() as connection:
            connection.execute(RESULT.insert().values(start=turn.period.start))
            mark_done(connection, turn, turn.now)

    def tick(self, now: int | None = None, *, is_trusted: bool = True) -> None:
        if now is not None:
            self.clock.origin = now
        asyncio.run(self.schedule.tick(is_trusted=is_trusted))

    def results(self) -> list[int]:
        """Return the hours that have a result, as they were written, from the first."""
        with self.database.reads.begin() as connection:
            found = connection.execute(select(RESULT.c.start).order_by(RESULT.c.no)).scalars()
            return [(start - FIRST) // HOUR for start in found]


@pytest.fixture
def process(database: Database) -> Callable[..., Process]:
    with database.writes.begin() as connection:
        RESULT.drop(connection, checkfirst=True)
        RESULT.create(connection)

    def make(now: int = FIRST + 5, **options: Any) -> Process:
        return Process(database, Clock(origin=now, monotonic_origin=0, speed=0), **options)

    return make


def test_missed_periods_are_made_up_for_in_order_each_once_from_the_one_in_which_the_job_began(
    process: Callable[..., Process],
) -> None:
    one, other = process(), process()
    one.tick()
    assert one.results() == [], "the first hour has not ended yet"
    one.tick(FIRST + HOUR - 1)
    assert one.results() == []
    one.tick(FIRST + HOUR)
    other.tick(FIRST + HOUR + 1)
    assert one.results() == [0]
    other.tick(FIRST + 5 * HOUR)
    one.tick(FIRST + 5 * HOUR)
    assert one.results() == [0, 1, 2, 3, 4]
    assert one.failures == other.failures == []


def test_a_tick_makes_up_for_so_many_periods_that_other_jobs_have_their_turn(process: Callable[..., Process]) -> None:
    one = process()
    one.tick()
    one.tick(FIRST + 150 * HOUR)
    assert one.results() == list(range(MAX_AT_ONCE))
    one.tick()
    assert one.results() == list(range(150))


def test_without_trusted_time_it_waits_and_then_makes_up(process: Callable[..., Process]) -> None:
    one = process()
    one.tick(is_trusted=False)
    one.tick()
    one.tick(FIRST + 9_000 * HOUR, is_trusted=False)
    assert one.results() == []
    one.tick(FIRST + 2 * HOUR)
    assert one.results() == [0, 1]


def test_a_job_that_fails_keeps_its_order_and_is_tried_again(
    process: Callable[..., Process], database: Database
) -> None:
    one = process()
    one.tick()

    async def fail(turn: Turn) -> None:
        if turn.period.start == FIRST + HOUR:
            raise OperationalError("SELECT", {}, Exception("disk I/O error"))

    one.before = fail
    for _ in range(2):
        one.tick(FIRST + 3 * HOUR)
    assert one.results() == [0], "the third hour must not come before the second"
    assert len(one.failures) == 2
    with database.reads.begin() as connection:
        states = {str(row["start"]): row["state"] for row in newest_periods(connection, 9, FIRST + 3 * HOUR)}
    expected = ["done", "failed", "due", "to come"]
    assert states == {str(FIRST + n * HOUR): state for n, state in enumerate(expected)}
    one.before = None
    one.tick()
    assert one.results() == [0, 1, 2]


def test_after_a_crash_in_a_job_its_period_is_done_once_when_the_lease_has_ended(
    process: Callable[..., Process], database: Database
) -> None:
    one = process()
    one.tick()
    now = FIRST + HOUR
    with database.writes.begin() as connection:
        turn = take(connection, BILLS, now)
        assert turn is not None, "the process that took it died"
    one.tick(now + LEASE_S - 1)
    assert one.results() == []
    one.tick(now + LEASE_S)
    assert one.results() == [0]
    # As if it had been paused only: what it writes now is rolled back.
    with pytest.raises(LeaseLostError, match="another attempt"):
        asyncio.run(one.write(turn))
    assert one.results() == [0]


def test_a_lease_given_by_a_clock_that_was_ahead_holds_nobody_up(
    process: Callable[..., Process], database: Database
) -> None:
    one = process()
    one.tick()
    one.tick(FIRST + HOUR - 1)
    with database.writes.begin() as connection:
        assert take(connection, BILLS, FIRST + 900 * HOUR) is not None
    one.tick(FIRST + HOUR)
    assert one.results() == [0]
    one.tick(FIRST + 2 * HOUR)
    assert one.results() == [0, 1]


def test_while_a_job_runs_its_lease_is_renewed_and_the_other_process_waits(
    process: Callable[..., Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_SHORTEST_RENEW_S", 0.01)
    monkeypatch.setattr(runner, "LEASE_S", 0.03)
    one, other = process(), process()
    one.tick()
    begun, may_end, renewed = asyncio.Event(), asyncio.Event(), []

    def count_renewals(connection: Any, turn: Turn, now: int) -> None:
        renew(connection, turn, now)
        renewed.append(now)

    async def wait(_: Turn) -> None:
        begun.set()
        await may_end.wait()

    async def play() -> None:
        running = asyncio.create_task(one.schedule.tick(is_trusted=True))
        await begun.wait()
        now = FIRST + HOUR
        for _ in range(5):
            now += LEASE_S - 10
            one.clock.origin = other.clock.origin = now
            await become(lambda now=now: now in renewed)  # type: ignore[misc]
            await other.schedule.tick(is_trusted=True)
        assert one.results() == []
        may_end.set()
        await running

    monkeypatch.setattr(runner, "renew", count_renewals)
    one.before = wait
    one.clock.origin = FIRST + HOUR
    asyncio.run(play())
    assert one.results() == [0]
    assert one.failures == []


def test_a_job_whose_lease_is_lost_is_stopped(
    process: Callable[..., Process], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_SHORTEST_RENEW_S", 0.01)
    monkeypatch.setattr(runner, "LEASE_S", 0.03)
    one = process()
    one.tick()

    async def lose_it(_: Turn) -> None:
        with database.writes.begin() as connection:
            assert take(connection, BILLS, FIRST + HOUR + LEASE_S) is not None
        await asyncio.Event().wait()

    one.before = lose_it
    one.tick(FIRST + HOUR)
    assert [type(error) for error in one.failures] == [LeaseLostError]
    assert one.results() == []


def test_of_a_job_that_makes_up_for_nothing_two_processes_do_the_present_period_once(
    process: Callable[..., Process], database: Database
) -> None:
    one, other = process(catch_up=False), process(catch_up=False)
    one.tick(FIRST + HOUR + 1)
    other.tick(FIRST + HOUR - 1)  # its clock is a little behind
    one.tick(FIRST + HOUR + 2)
    other.tick(FIRST + 700 * HOUR)
    one.tick(FIRST + 700 * HOUR)
    assert one.results() == [1, 700]
    with database.writes.begin() as connection:
        connection.execute(period.update().values(done=None, lease_until=FIRST + 701 * HOUR + 20))
    other.tick(FIRST + 701 * HOUR)
    assert one.results() == [1, 700], "the period before is still being done"
    other.tick(FIRST + 701 * HOUR + 20)
    assert one.results() == [1, 700, 701]


def test_jobs_are_shown_with_what_is_not_done_first(process: Callable[..., Process], config: Path) -> None:
    one = process()
    one.tick()
    one.tick(FIRST + HOUR)
    jobs = shown(config, "jobs")["jobs"]
    assert any(str(one["done"]).startswith("2027-01-15") for one in jobs)
    assert "bills" in {one["name"] for one in jobs}
    assert "done" in {one["state"] for one in shown(config, "jobs/periods")["periods"]}
