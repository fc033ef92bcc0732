"""People see each job with its last run and what is late, and may run, pause and change it."""

import asyncio
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from commonwatt.config.utility import UtilitySettings
from commonwatt.model.exceptions import ConfigError
from commonwatt.runtime.clock import Clock
from utility.access.actor import Actor, Via
from utility.access.roles import Role
from utility.access.store.audit_log import Wanted, entries
from utility.database.database import Database
from utility.jobs.calendar_periods import LocalDay, Seconds
from utility.jobs.catalogue import catalogue, plan_of
from utility.jobs.plans import Plan
from utility.jobs.runner import Job, Schedule
from utility.jobs.store.job_leases import LAST_BACKOFF_S, Turn, take
from utility.jobs.store.job_states import plan_in_force
from utility.jobs.store.listing import JobAnswer, change, listed, pause, resume, run_now
from utility.jobs.threads import HERE

NEW_YORK = ZoneInfo("America/New_York")
DAYS = Plan(name="days", does="", cadence=LocalDay(), catch_up=True, minute=150, late_s=7_200)
SECONDS = Plan(name="seconds", does="", cadence=Seconds(900), late_s=3_600)
START = int(datetime(2026, 11, 18, 12, tzinfo=NEW_YORK).timestamp())
DAY_S = 86_400
ANNA = Actor(name="anna", roles=frozenset({Role.ADMIN}), account=None, via=Via.MACHINE, address="")


class Service:
    """A service with the two jobs; its clock is set by each tick."""

    def __init__(self, database: Database) -> None:
        self.ran: list[tuple[str, str]] = []  # the job and period of each run
        self.fault: Exception | None = None  # what each run fails by; ``None``: it does not
        self._database = database
        self._clock = Clock(origin=START, monotonic_origin=0, speed=0)

        table = [Job(plan=plan, run=self._work) for plan in (DAYS, SECONDS)]
        self._schedule = Schedule(table, database, self._clock, HERE.write, lambda *_: None)

    async def _work(self, turn: Turn) -> None:
        if self.fault is not None:
            raise self.fault
        self.ran.append((turn.job, turn.period.name))

    def tick(self, now: int) -> None:
        self._clock.origin = now
        asyncio.run(self._schedule.tick(is_trusted=True))

    def days(self) -> list[str]:
        return [name for job, name in self.ran if job == "days"]

    def row(self, name: str, now: int) -> JobAnswer:
        return next(row for row in listed(self._database, (DAYS, SECONDS), now) if row.name == name)


@pytest.fixture
def service(database: Database) -> Service:
    return Service(database)


def test_a_job_is_shown_with_its_last_run_and_the_next(service: Service) -> None:
    assert (service.row("days", START).state, service.row("days", START).next_due) == ("ok", None)
    service.tick(START)
    now = START + DAY_S
    service.tick(now)
    row = service.row("days", now)
    assert (row.state, row.period, row.done, row.open, row.late_s, row.at) == ("ok", "2026-11-18", now, 0, 0, "02:30")
    assert row.next_due == int(datetime(2026, 11, 20, 2, 30, tzinfo=NEW_YORK).timestamp())
    row = service.row("seconds", now)
    assert (row.state, row.done, row.every) == ("ok", now, "900 s")
    assert row.next_due is not None
    assert 0 < row.next_due - now <= 900


def test_a_failed_run_shows_why_and_is_tried_again_later_and_later(service: Service) -> None:
    service.tick(START)
    service.fault = ValueError("the folder\nis gone " + "x" * 900)
    now, waits = START + DAY_S, []
    for _ in range(12):
        service.tick(now)
        row = service.row("days", now)
        assert row.state == "failed"
        assert (row.error or "").startswith("ValueError: the folder is gone")
        assert row.next_due is not None
        waits.append(row.next_due - now)
        now = row.next_due
    assert waits[:5] == [0, 0, 60, 120, 240], "the first attempts follow at once"
    assert waits[-1] == LAST_BACKOFF_S
    assert service.row("days", now).late_s > 0
    service.fault = None
    service.tick(now)
    row = service.row("days", now)
    assert (row.state, row.period, row.failed is not None) == ("ok", "2026-11-18", True)
    assert "the folder is gone" in (row.error or ""), "the last error stays to be seen"


def test_a_paused_job_waits_and_then_makes_up_for_each_day_once(service: Service, database: Database) -> None:
    service.tick(START)
    pause(database, DAYS, ANNA, START)
    with pytest.raises(ConfigError, match="paused already, since 2026-11-18"):
        pause(database, DAYS, ANNA, START)
    with pytest.raises(ConfigError, match="resume it first"):
        run_now(database, DAYS, ANNA, START)
    now = START + 3 * DAY_S
    service.tick(now)
    assert service.days() == []
    row = service.row("days", now)
    assert (row.state, row.late_s, row.paused) == ("paused", 0, START)
    resume(database, DAYS, ANNA, now)
    with pytest.raises(ConfigError, match="not paused"):
        resume(database, DAYS, ANNA, now)
    assert service.row("days", now).late_s == 2 * DAY_S + int(9.5 * 3_600) - 7_200, "it shows again what it missed"
    service.tick(now)
    service.tick(now)
    assert service.days() == ["2026-11-18", "2026-11-19", "2026-11-20"]


def test_a_job_without_periods_to_make_up_for_is_run_now_again(service: Service, database: Database) -> None:
    assert "has not run yet" in run_now(database, SECONDS, ANNA, START)
    service.tick(START)
    for _ in range(2):
        assert "runs within 15 s" in run_now(database, SECONDS, ANNA, START + 5)
        service.tick(START + 20)
    service.tick(START + 30)
    assert len(service.ran) == 3
    run_now(database, SECONDS, ANNA, START + 40)
    with database.writes.begin() as connection:
        assert take(connection, SECONDS, START + 41) is not None
    with pytest.raises(ConfigError, match="is running now"):
        run_now(database, SECONDS, ANNA, START + 42)


def test_a_job_of_days_is_run_now_only_for_a_day_that_is_over_and_not_done(
    service: Service, database: Database
) -> None:
    service.tick(START)
    with pytest.raises(ConfigError, match="2026-11-18 ends at 2026-11-19 05:00"):
        run_now(database, DAYS, ANNA, START)
    early = int(datetime(2026, 11, 19, 1, tzinfo=NEW_YORK).timestamp())
    service.tick(early)
    assert service.days() == [], "due at 02:30"
    run_now(database, DAYS, ANNA, early)
    service.tick(early + 15)
    assert service.days() == ["2026-11-18"]


def test_a_changed_interval_or_time_of_day_holds_at_once_and_can_be_put_back(
    service: Service, database: Database
) -> None:
    service.tick(START)
    change(database, SECONDS, ANNA, START, every_s=60)
    change(database, DAYS, ANNA, START, minute=0)
    for now in range(START, START + 300, 15):
        service.tick(now)
    assert len([job for job, _ in service.ran if job == "seconds"]) == 1 + 4
    midnight = int(datetime(2026, 11, 19, tzinfo=NEW_YORK).timestamp())
    service.tick(midnight)
    assert service.days() == ["2026-11-18"]
    assert (service.row("seconds", midnight).every, service.row("seconds", midnight).changed) == ("60 s", True)
    change(database, SECONDS, ANNA, midnight)
    with database.reads.begin() as connection:
        logged = entries(connection, Wanted(action="job.change"), 1)[0]
    assert (logged["person"], logged["subject"]) == ("anna", "seconds")
    assert ('"every_s": 60' in str(logged["before"]), '"every_s": null' in str(logged["after"])) == (True, True)
    assert service.row("seconds", midnight).every == "900 s"


@pytest.mark.parametrize(
    ("plan", "every_s", "minute", "why"),
    [
        (SECONDS, 14, None, "15 to 86400 s, not 14 s"),
        (SECONDS, 86_401, None, "15 to 86400 s"),
        (SECONDS, None, 30, "has no time of day"),
        (DAYS, 900, None, "once for each local day"),
        (DAYS, None, 1_440, "00:00 to 23:59"),
        (plan_of(UtilitySettings(), "supply"), 301, None, "15 to 300 s"),
    ],
)
def test_a_change_that_cannot_be_is_refused_and_changes_nothing(
    database: Database, plan: Plan, every_s: int | None, minute: int | None, why: str
) -> None:
    with pytest.raises(ConfigError, match=why):
        change(database, plan, ANNA, START, every_s=every_s, minute=minute)
    with database.reads.begin() as connection:
        assert plan_in_force(connection, plan) == plan


def test_jobs_are_found_by_what_the_documents_call_them() -> None:
    settings = UtilitySettings()
    for name, job in {
        "Query_data": "gaps",
        "recover-data": "gaps",
        "Create_bills": "bills",
        "compact": "compact",
    }.items():
        assert plan_of(settings, name).name == job
    with pytest.raises(ConfigError, match="there is no such job; there are supply, rates"):
        plan_of(settings, "laundry")
    names = [plan.name for plan in catalogue(settings)]
    assert len(names) == len(set(names))
