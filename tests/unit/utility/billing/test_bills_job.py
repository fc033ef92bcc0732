"""The month's drafts: one of each month, however late, the steps to it, and what a day adds to a bill so far."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, timedelta
from functools import partial
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commonwatt.runtime.clock import Clock
from harness.billing.worlds import World, found_in_store, published, random_world, tariff, world_of
from harness.surroundings import databases
from utility.billing.jobs import LOOK_AGAIN_S, make_bills
from utility.billing.run import bills_of, energy_of, grown, month_steps
from utility.billing.store.runs import check_run, issue_run, runs
from utility.database.database import Database
from utility.energy.quarters import QUARTERS_A_DAY, Quantity, SettledQuarters
from utility.jobs.plans import HERE, plan_of
from utility.jobs.runner import Job, Schedule
from utility.jobs.store import listed
from utility.jobs.tables import settled_day
from utility.settings import BillingSettings, UtilitySettings
from utility.settlement.day import SettledDay, with_day

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


def states(runs: list[dict[str, object]], waits_for: str | None) -> list[tuple[str, str]]:
    return [(step.state, step.waits_for) for step in month_steps(runs, waits_for)]


def test_the_first_step_that_is_not_done_says_what_it_waits_for() -> None:
    waiting = states([], "3 days are not final")
    assert waiting[0] == ("now", "3 days are not final")
    assert [state for state, _ in waiting[1:]] == ["later"] * 3
    ready = states([], None)
    assert ready[1][0] == "now"
    assert "a clerk now" in ready[1][1]
    drafts: list[dict[str, object]] = [
        {"no": 1, "state": "draft"},
        {"no": 2, "state": "checked", "made_by": "service", "made": 5, "checked_by": "anna", "checked": 9},
    ]
    checked = month_steps(drafts, None)
    assert [step.state for step in checked] == ["done", "done", "done", "now"]
    assert checked[3].run == 2
    assert [(step.by, step.at) for step in checked] == [("", None), ("service", 5), ("anna", 9), ("", None)]
    assert [state for state, _ in states([{"no": 3, "state": "issued"}], None)] == ["done"] * 4


def test_a_draft_whose_readings_may_still_come_has_no_step_done() -> None:
    draft = {"no": 4, "state": "draft", "made_by": "anna", "made": 5}
    figures = {"provisional": 9, "days": 20, "of_days": 31}
    steps = month_steps([draft | {"figures": figures}], "11 days not settled yet")
    assert [step.state for step in steps] == ["now", "later", "later", "later"]
    assert steps[0].waits_for == "20 of 31 days are settled; 11 days not settled yet"
    assert steps[1].run == 4, "it can be looked at"
    late = month_steps([draft | {"figures": {"provisional": 9}}], None)
    assert late[0].state == "now", "all days are settled, and a reading may still come"


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10_000), st.sets(st.integers(0, 27), max_size=4))
def test_the_figures_of_days_add_up_to_the_months_figure_of_its_lines_for_energy(seed: int, some: set[int]) -> None:
    world = random_world(seed)
    inputs = world.inputs
    # Days one by one, and those between them as one: any days of a month.
    ends = sorted({inputs.day_ends[day + more] + 1 for day in some for more in (0, 1)} | {inputs.until})
    bounds = [inputs.first, *ends]
    days = [grown(inputs, world.load, start, end) for start, end in pairwise(bounds)]
    for number, each in bills_of(inputs, world.load).billed.items():
        assert sum(day[number] for day in days) == energy_of(each.bill), number


def only(world: World, quantity: Quantity) -> World:
    energies = {each: 1000 * values * (each is quantity) for each, values in world.settled.energies.items()}
    return replace(world, settled=replace(world.settled, energies=energies))


def test_energy_from_neighbours_adds_nothing_to_a_bill_and_the_towns_does() -> None:
    world = random_world(3)
    ends = world.inputs.first, world.inputs.first + QUARTERS_A_DAY
    free, paid = (
        grown(world.inputs, only(world, quantity).load, *ends) for quantity in (Quantity.SHARED_IN, Quantity.IMPORTED)
    )
    assert set(free.values()) == {0}
    assert max(paid.values()) > 0


def test_a_day_that_is_not_over_stands_only_where_nothing_is_settled_yet() -> None:
    first, shape = 960, (2, QUARTERS_A_DAY)
    version = np.zeros((1, 48), np.int32)
    version[0, :8] = 1  # The quarters before the day of UTC begins are settled.
    month = SettledQuarters(
        meters=np.array([7], np.uint64),
        first=first - 8,
        energies={Quantity.IMPORTED: np.full((1, 48), 5)},
        quality=np.full((1, 48), 4, np.uint8),
        provisional=version == 0,
        version=version,
    )
    day = SettledDay(
        day=first // QUARTERS_A_DAY,
        meters=np.array([3, 7], np.uint64),
        energies={quantity: np.full(shape, 9) for quantity in Quantity},
        has={quantity: np.ones(2, np.bool_) for quantity in Quantity},
        quality=np.full(shape, 4, np.uint8),
        residuals={},
        missing={},
    )
    assert with_day(month, day).of(Quantity.IMPORTED)[0].tolist() == [5] * 8 + [9] * 40
