"""Each month gets one draft of its bills: when its days are final and the month before is issued, however late."""

import asyncio
from collections.abc import Callable
from datetime import date, datetime, timedelta
from functools import partial
from zoneinfo import ZoneInfo

import pytest

from commonwatt.config.utility import BillingSettings, UtilitySettings
from commonwatt.runtime.clock import Clock
from harness.billing.found import found_in_store, published
from harness.billing.two_months import world_of
from harness.billing.worlds import tariff
from harness.real import databases
from utility.billing.jobs import LOOK_AGAIN_S, make_bills
from utility.billing.store.billing import check_run, issue_run, runs
from utility.database.database import Database
from utility.jobs.catalogue import plan_of
from utility.jobs.runner import Job, Schedule
from utility.jobs.store.listing import listed
from utility.jobs.tables import settled_day
from utility.jobs.threads import HERE

kind = databases.both_kinds

NEW_YORK = ZoneInfo("America/New_York")
PLAN = plan_of(UtilitySettings(), "Create_bills")


def at(*when: int) -> int:
    return int(datetime(*when, tzinfo=NEW_YORK).timestamp())  # type: ignore[arg-type,misc]


def settle(database: Database, first: date, last: date, *, final: bool = True) -> None:
    """Have the days from ``first`` to ``last`` be settled."""
    days = [(first + timedelta(days=n) - date(1970, 1, 1)).days for n in range((last - first).days + 1)]
    rows = [
        {"day": day, "owner_no": 1, "convention": "pro_rata", "computed": 0, "missing": 0, "final": final}
        | {"residual": "{}"}
        for day in days
    ]
    with database.writes.begin() as connection:
        connection.execute(settled_day.delete().where(settled_day.c.day.in_(days)))
        connection.execute(settled_day.insert(), rows)


@pytest.fixture
def tick(database: Database, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[tuple[str, str]]]:
    """Tick at a time, as a service does that has the job of bills alone; return the months that have runs."""
    found_in_store(monkeypatch, world_of())
    clock = Clock(origin=0, monotonic_origin=0, speed=0)

    make = partial(make_bills, BillingSettings(), database, HERE)
    failures: list[Exception] = []
    schedule = Schedule(
        [Job(plan=PLAN, run=make)], database, clock, HERE.write, lambda _, error: failures.append(error)
    )

    def at_time(now: int) -> list[tuple[str, str]]:
        clock.origin = now
        asyncio.run(schedule.tick(is_trusted=True))
        assert failures == []
        with database.reads.begin() as connection:
            return [(row["month"], row["state"]) for row in reversed(runs(connection, 9))]

    return at_time


def publish(database: Database) -> None:
    published(database, tariff())


def issue(database: Database, number: int) -> None:
    with database.writes.begin() as connection:
        check_run(connection, number, "anna", 0)
        issue_run(connection, number, "ben", 0)


def waits_for(database: Database, now: int) -> str:
    (row,) = listed(database, [PLAN], now)
    return f"{row.state}: {row.waits_for}"


def test_after_three_months_off_each_month_is_billed_once_in_order(
    tick: Callable[[int], list[tuple[str, str]]], database: Database
) -> None:
    publish(database)
    assert tick(at(2026, 10, 15)) == []
    settle(database, date(2026, 10, 1), date(2026, 12, 1))
    now = at(2027, 1, 2)
    assert tick(now) == [("2026-10", "draft")]
    assert "bills of 2026-10 are not issued" in waits_for(database, now)
    issue(database, 1)
    assert tick(now + LOOK_AGAIN_S - 1) == [("2026-10", "issued")]
    for _ in range(2):
        assert tick(now + LOOK_AGAIN_S) == [("2026-10", "issued"), ("2026-11", "draft")]
    issue(database, 2)
    now += 3 * LOOK_AGAIN_S
    tick(now)
    assert waits_for(database, now).startswith("waiting: 31 days not settled yet, the first 2026-12-02")


def test_a_month_waits_for_its_last_readings_and_then_has_one_draft(
    tick: Callable[[int], list[tuple[str, str]]], database: Database
) -> None:
    publish(database)
    settle(database, date(2026, 10, 20), date(2026, 11, 1))
    settle(database, date(2026, 10, 31), date(2026, 10, 31), final=False)
    now = at(2026, 11, 1, 1)
    assert tick(now - 1) == [], "not before the time of day at which it is due"
    assert tick(now) == []
    assert "readings missing in 1 settled day of microgrids, the first 2026-10-31" in waits_for(database, now)
    settle(database, date(2026, 10, 31), date(2026, 10, 31))
    now += LOOK_AGAIN_S
    assert tick(now) == [("2026-10", "draft")], "days before the town's first one do not count"
    assert waits_for(database, now) == "ok: "


def test_a_month_that_cannot_be_billed_holds_up_no_later_one(
    tick: Callable[[int], list[tuple[str, str]]], database: Database
) -> None:
    assert tick(at(2026, 10, 15)) == [], "September was before the town's first settled day"
    settle(database, date(2026, 10, 1), date(2026, 12, 1))
    assert tick(at(2026, 11, 2)) == [], "no tariff was published"
    assert waits_for(database, at(2026, 11, 2)) == "ok: "
    publish(database)
    assert tick(at(2026, 12, 2)) == [("2026-11", "draft")]
