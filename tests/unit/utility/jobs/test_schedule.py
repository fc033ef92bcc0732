"""Two schedules on one database, killed and down for long: each local day and month is done once, in order.

Years pass in each zone, which the worlds at a month's end have no time for.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, create_engine, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import StaticPool

from commonwatt.runtime.clock import Clock
from harness.commands import shown
from harness.network.waiting import become
from harness.surroundings import databases
from utility.database.database import Database
from utility.database.engines import writing
from utility.jobs import runner
from utility.jobs.plans import UNCHANGED, LocalDay, LocalMonth, Plan, Seconds, lacking
from utility.jobs.runner import MAX_AT_ONCE, Job, Schedule
from utility.jobs.store import (
    LEASE_S,
    LeaseLostError,
    Turn,
    finish,
    give_back,
    mark_done,
    newest_periods,
    postpone,
    renew,
    take,
)
from utility.jobs.tables import job, period

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
        states = {str(row.start): row.state for row in newest_periods(connection, 9, FIRST + 3 * HOUR)}
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


DAY_S = 86_400
# Zones with what goes wrong with calendars, and the first day of a year in which it does.
ZONES = {
    "America/New_York": date(2015, 1, 1),
    "America/Sao_Paulo": date(2017, 6, 1),  # clocks change at midnight
    "Pacific/Apia": date(2011, 6, 1),  # 30 December 2011 never was
    "Australia/Lord_Howe": date(2015, 1, 1),  # clocks change by half an hour
}
BEGIN, UNTIL = date(2009, 1, 15), date(2019, 1, 15)


class KilledError(Exception):
    """The process was killed: nothing that it has not committed happened."""


class TwoUtilities:
    """Two utilities on one database that run one job in turns."""

    def __init__(self, plan: Plan, zone: str) -> None:
        self.done: list[str] = []  # periods whose end is committed
        self.kills = 0
        self._plan, self._rng = plan.in_force(UNCHANGED, ZoneInfo(zone)), random.Random(13)
        self._engine = writing(create_engine("sqlite://", poolclass=StaticPool))

    def live(self, now: int, end: int) -> None:
        """Let time go on by seconds or by months, in which nothing runs. The last hours are calm."""
        for table in (period, job):
            table.create(self._engine)
        self._tick(now, may_die=False)
        while now < end:
            now = min(end, now + self._rng.choice((15, LEASE_S, 3_600, DAY_S, 2 * DAY_S, 9 * DAY_S, 92 * DAY_S)))
            wrong_s = self._rng.choice((0, 0, -30, 30))
            for _ in range(self._rng.randrange(1, 4)):
                self._tick(now + wrong_s, may_die=self._rng.random() < 0.7)
        for hour in range(1, 10):
            self._tick(end + hour * 3_600, may_die=False)
        self._engine.dispose()

    def _tick(self, now: int, *, may_die: bool) -> None:
        """Have one of them do what is due, until it is killed, fails or has to wait."""
        try:
            while self._did_one(now, may_die=may_die):
                self._perhaps_die(may_die)
        except KilledError:
            self.kills += 1

    def _did_one(self, now: int, *, may_die: bool) -> bool:
        with self._engine.begin() as connection:
            turn = take(connection, self._plan, now)
        if turn is None:
            return False
        self._perhaps_die(may_die)
        fate = self._rng.random() if may_die else 1.0
        with self._engine.begin() as connection:
            if fate < 0.02:
                give_back(connection, turn, now, "a fault")
            elif fate < 0.04:
                postpone(connection, turn, "readings", now + 3_600)
            else:
                finish(connection, turn, now, 0)
                self._perhaps_die(may_die)
        if fate >= 0.04:
            self.done.append(turn.period.name)
        return fate >= 0.04

    def _perhaps_die(self, may_die: bool) -> None:
        if may_die and self._rng.random() < 0.05:
            raise KilledError


def noon(day: date) -> int:
    """Return the noon UTC of a day."""
    return int(datetime(day.year, day.month, day.day, 12, tzinfo=UTC).timestamp())


def wanted_days(zone: str, begin: date, until: date) -> list[str]:
    """Return the local days that are over between noon UTC of a day and the midnight UTC of another."""
    there = ZoneInfo(zone)
    day, last = (datetime.fromtimestamp(at, there).date() for at in (noon(begin), noon(until) - DAY_S // 2))
    days = [day + timedelta(days=n) for n in range((last - day).days)]
    # A day that a zone left out has no noon.
    noons = {day: datetime(day.year, day.month, day.day, 12, tzinfo=there) for day in days}
    return [str(day) for day in days if noons[day].astimezone(UTC).astimezone(there).date() == day]


@pytest.mark.parametrize("zone", ZONES)
def test_years_of_months_and_days_are_done_once_in_order(zone: str) -> None:  # req: A9
    begin = ZONES[zone]
    until = begin.replace(year=begin.year + 1)
    months = TwoUtilities(Plan(name="months", does="", cadence=LocalMonth(), catch_up=True, minute=90), zone)
    months.live(noon(BEGIN), noon(UNTIL) - DAY_S)
    assert months.done == [f"{2009 + n // 12}-{n % 12 + 1:02}" for n in range(120)]
    days = TwoUtilities(Plan(name="days", does="", cadence=LocalDay(), catch_up=True, minute=90), zone)
    days.live(noon(begin), noon(until) - DAY_S)
    assert days.done == wanted_days(zone, begin, until)
    assert min(months.kills, days.kills) > 5


@pytest.mark.parametrize("zone", ZONES)
def test_ten_years_of_days_are_found_however_seldom_a_utility_looks(zone: str) -> None:
    rng, cadence, now, end = random.Random(13), LocalDay(ZoneInfo(zone)), noon(BEGIN), noon(UNTIL) - DAY_S // 2
    found = lacking(cadence, None, now, catch_up=True)
    while now < end:
        now = min(end, now + rng.choice((15, 3_600, 9 * DAY_S, 92 * DAY_S)))
        found += lacking(cadence, found[-1], now, catch_up=True)
    assert [one.name for one in found if one.end <= end] == wanted_days(zone, BEGIN, UNTIL)
