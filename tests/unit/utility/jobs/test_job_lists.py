"""People see and change each job; local days and months divide all time, and missed periods are found once."""

import asyncio
import re
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commonwatt.model.exceptions import ConfigError
from commonwatt.runtime.clock import Clock
from harness.docs.marked import DOCS
from utility.access.people import Actor, Role, Via
from utility.access.store.audit_log import AuditFilter, entries
from utility.database.database import Database
from utility.jobs.plans import (
    AHEAD_S,
    HERE,
    MAX_NEW,
    Cadence,
    LocalDay,
    LocalMonth,
    Period,
    Plan,
    Seconds,
    catalogue,
    following,
    lacking,
    plan_of,
)
from utility.jobs.runner import Job, Schedule
from utility.jobs.store import (
    LAST_BACKOFF_S,
    JobAnswer,
    Turn,
    change,
    listed,
    pause,
    plan_in_force,
    resume,
    run_now,
    take,
)
from utility.settings import UtilitySettings

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
        logged = entries(connection, AuditFilter(action="job.change"), 1)[0]
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


def test_the_page_has_each_job_and_what_the_documents_call_it() -> None:
    whole = UtilitySettings()
    mail = whole.office.mail.model_copy(update={"host": "mail.example"})
    whole = whole.model_copy(
        update={
            "exports": whole.exports.model_copy(update={"folder": Path("x")}),
            "backup": whole.backup.model_copy(update={"folder": Path("x")}),
            "office": whole.office.model_copy(update={"mail": mail}),
            "site": Path("x"),
            "care": "127.0.0.1:8444",
        }
    )
    section = (DOCS / "operations.md").read_text().split("### The jobs\n")[1].split("\n#")[0]
    rows = re.findall(r"^\| `(\w+)` \|.*\| ?([\w, ]*?) ?\|$", section, re.MULTILINE)
    assert sorted(rows) == sorted((plan.name, ", ".join(plan.also)) for plan in catalogue(whole))


HOUR = 3600
TIMES = st.integers(min_value=0, max_value=2**32 - 1)
ZONES = st.sampled_from(sorted(available_timezones())).map(ZoneInfo)
CADENCES: st.SearchStrategy[Cadence] = st.one_of(
    st.integers(1, 100_000).map(Seconds), ZONES.map(LocalDay), ZONES.map(LocalMonth)
)


def at(zone: str, *when: int) -> int:
    return int(datetime(*when, tzinfo=ZoneInfo(zone)).timestamp())  # type: ignore[arg-type,misc]


def from_to(cadence: Cadence, start: int, end: int) -> list[Period]:
    periods = [cadence.period_at(start)]
    while periods[-1].end <= end:
        periods.append(cadence.period_at(periods[-1].end))
    return periods


@given(CADENCES, TIMES)
def test_every_second_is_in_one_period_and_the_next_begins_where_it_ends(cadence: Cadence, time: int) -> None:
    period = cadence.period_at(time)
    assert period.start <= time < period.end
    assert cadence.period_at(period.start) == cadence.period_at(period.end - 1) == period
    after = cadence.period_at(period.end)
    assert after.start == period.end
    assert after.name > period.name
    assert following(cadence, period.end) == after
    if period.start > 0:
        assert cadence.period_at(period.start - 1).end == period.start


@given(ZONES, st.integers(1970, 2090))
def test_a_year_has_its_twelve_months_and_each_of_its_days_once(zone: ZoneInfo, year: int) -> None:
    noon = (datetime(year, 2, 1, 12, tzinfo=zone), datetime(year + 1, 1, 1, 12, tzinfo=zone))
    start, end = (int(moment.timestamp()) for moment in noon)
    months = [period.name for period in from_to(LocalMonth(zone), start, end)]
    assert months == [*(f"{year}-{month:02}" for month in range(2, 13)), f"{year + 1}-01"]
    days = from_to(LocalDay(zone), start, end)
    names = [period.name for period in days]
    assert names == sorted(set(names))
    assert all(one.end == other.start for one, other in pairwise(days))
    # Samoa, Kiribati and others left a day out when they crossed the date line.
    assert 334 <= len(names) <= 336
    assert {int(name[5:7]) for name in names} == set(range(1, 13))


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("America/New_York", (2026, 3, 8), 23),
        ("America/New_York", (2026, 11, 1), 25),
        ("America/New_York", (2026, 7, 4), 24),
        ("America/New_York", (2024, 2, 29), 24),
        ("America/Havana", (2026, 3, 8), 23),
        ("America/Sao_Paulo", (2018, 11, 4), 23),
        ("America/Sao_Paulo", (2018, 2, 17), 25),
        ("Australia/Lord_Howe", (2026, 4, 5), 24.5),
        ("Pacific/Apia", (2011, 12, 29), 24),
        ("Pacific/Apia", (2011, 12, 31), 24),
    ],
)
def test_a_day_has_the_hours_that_its_zone_gives_it(zone: str, day: tuple[int, int, int], hours: float) -> None:
    period = LocalDay(ZoneInfo(zone)).period_at(at(zone, *day, 12))
    assert (period.end - period.start) / HOUR == hours
    assert period.name == "{}-{:02}-{:02}".format(*day)


def test_a_month_begins_at_local_midnight_on_its_first_also_where_clocks_change_on_it() -> None:
    november = LocalMonth().period_at(at("America/New_York", 2026, 11, 1))
    assert november.name == "2026-11"
    assert november.start == datetime(2026, 11, 1, 4, tzinfo=UTC).timestamp()
    assert november.end == datetime(2026, 12, 1, 5, tzinfo=UTC).timestamp()
    assert LocalMonth().period_at(november.start - 1).name == "2026-10"


def test_a_new_job_begins_with_the_present_period() -> None:
    now = at("America/New_York", 2026, 11, 20, 15)
    for catch_up in (True, False):
        assert [p.name for p in lacking(LocalMonth(), None, now, catch_up=catch_up)] == ["2026-11"]


@given(CADENCES, TIMES, st.lists(st.integers(0, 40 * 86_400), max_size=8), st.booleans())
def test_however_seldom_one_looks_no_missed_period_is_lost_or_doubled(
    cadence: Cadence, begin: int, steps: list[int], is_set_back: bool
) -> None:
    now = begin
    found = lacking(cadence, None, now, catch_up=True)
    for step in steps:
        now += step
        # A clock that is set back for a while adds nothing, and takes nothing away.
        if is_set_back:
            assert lacking(cadence, found[-1], max(0, begin - step), catch_up=True) == []
        while new := lacking(cadence, found[-1], now, catch_up=True):
            assert len(new) <= MAX_NEW
            found += new
            if len(new) == MAX_NEW:
                now = found[-1].start  # enough of these
    assert found[0] == cadence.period_at(begin)
    assert all(one.end == other.start for one, other in pairwise(found))
    assert found[-1].start <= now < found[-1].end


@given(CADENCES, CADENCES, TIMES, st.integers(0, 70 * 86_400))
def test_after_a_change_of_cadence_or_zone_time_is_divided_whole_all_the_same(
    old: Cadence, new: Cadence, time: int, later: int
) -> None:
    newest = old.period_at(time)
    found = [newest, *lacking(new, newest, time + later, catch_up=True)]
    assert all(one.end == other.start and other.start < other.end for one, other in pairwise(found))
    assert all(one == new.period_at(one.start) for one in found[2:])


def test_after_a_change_of_zone_no_second_bill_has_the_same_month() -> None:
    end = LocalMonth().period_at(at("America/New_York", 2026, 10, 20)).end
    for zone in ("America/Los_Angeles", "Europe/Berlin", "Asia/Tokyo"):
        assert following(LocalMonth(ZoneInfo(zone)), end).name == "2026-11"


def test_of_a_job_that_makes_up_for_nothing_only_the_present_period_counts() -> None:
    day = Seconds(86_400)
    now = 20_000 * 86_400 + 5
    present = day.period_at(now)
    assert lacking(day, day.period_at(now - 7 * 86_400), now, catch_up=False) == [present]
    assert lacking(day, present, now, catch_up=False) == []
    assert lacking(day, day.period_at(now + 86_400), now, catch_up=False) == [present], "a clock was wrong"
    soon = present.end - AHEAD_S
    assert lacking(day, day.period_at(present.end), soon, catch_up=False) == [], "another process's clock is ahead"
