"""Projections of the next month: energies, bills by the tariffs in force, and bands that hold what comes."""

import asyncio
import json
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from sqlalchemy import select

from commonwatt.town.town import Town
from harness.billing.worlds import published
from harness.commands import shown
from harness.settlement.emulated import small_town
from harness.surroundings.stored import random_day, settle, store_months
from utility.billing.inputs import RunInputs
from utility.billing.run import bills_of
from utility.billing.store import billing_sources
from utility.database.database import Database
from utility.jobs.plans import HERE, Period
from utility.jobs.store import Turn
from utility.settings import BillingSettings
from utility.settlement.store.readings import owners
from utility.statistics import jobs as projection
from utility.statistics.jobs import take_in
from utility.statistics.months import columns_of, month_number
from utility.statistics.projection import NEXT_MONTH, STEADY, Panel, YearBefore, coverage, project, scenarios
from utility.statistics.store.usage import Scope
from utility.statistics.store.usage_projection import Projectable, projection_view, rates_in_force, revenue
from utility.statistics.tables import usage_month, usage_projection
from utility.tariffs import store as tariffs
from utility.tariffs.tariff import read_tariff

SEASON = 100 + 40 * np.cos(np.arange(12) * 2 * np.pi / 12)


def test_months_that_repeat_are_projected_as_they_were() -> None:
    values = np.tile(SEASON, 5)[None, :] * np.array([[1.0], [3.0]])
    (one,) = project(Panel(values=values[:, :-2], groups=np.zeros(2, np.int64)))
    assert one.quantiles[:, 1] == pytest.approx(values[:, -1])
    assert one.quantiles[:, 2] - one.quantiles[:, 0] == pytest.approx(0, abs=1e-9)


def test_a_projection_does_not_depend_on_what_comes_after_it() -> None:
    random = np.random.default_rng(1)
    values = np.tile(SEASON, 6)[None, :] * random.lognormal(0, 0.1, (5, 72))
    whole = project(Panel(values=values, groups=np.zeros(5, np.int64)), first=40)
    for month in (40, 55, 71):
        known = Panel(values=values[:, : month - NEXT_MONTH + 1], groups=np.zeros(5, np.int64))
        assert np.array_equal(project(known)[0].quantiles, whole[month - 40].quantiles)


def test_growth_is_followed() -> None:
    months = np.arange(60)
    values = (np.tile(SEASON, 5) * 1.02**months)[None, :]
    (one,) = project(Panel(values=values[:, :-2], groups=np.zeros(1, np.int64)))
    assert one.quantiles[0, 1] == pytest.approx(values[0, -1], rel=0.05)


def test_too_few_months_have_no_band_and_unknown_months_no_projection() -> None:
    values = np.tile(SEASON, 3)[None, :].repeat(2, axis=0)
    assert np.isnan(project(Panel(values=values[:, :20], groups=np.zeros(2, np.int64)))[0].quantiles).all()
    values[1, 30] = np.nan
    (one,) = project(Panel(values=values, groups=np.zeros(2, np.int64)))
    assert np.isfinite(one.quantiles[0]).all()
    assert np.isnan(one.quantiles[1]).all()


def test_the_band_of_80_percent_holds_80_percent() -> None:
    random = np.random.default_rng(2)
    values = np.tile(SEASON, 8)[None, :] * random.lognormal(0, 0.2, (200, 96))
    found = project(Panel(values=values, groups=np.zeros(200, np.int64)), first=60)
    count, held = coverage(found)
    assert count > 5000
    assert held == pytest.approx(0.8, abs=0.02)


NEW_YORK = ZoneInfo("America/New_York")
TARIFF = Path("docs/examples/tariff.toml")


@pytest.fixture
def town() -> Town:
    return small_town()


def noon(text: str) -> int:
    return int(datetime.fromisoformat(f"{text}T12:00").replace(tzinfo=NEW_YORK).timestamp())


def turn(now: int) -> Turn:
    return Turn(job="projection", period=Period(start=now, end=now, name=""), attempt=1, now=now)


def project_month(database: Database, now: int, price: str | None = "0.10", *, is_trusted: bool = True) -> None:
    settings = BillingSettings(regional_price=None if price is None else Decimal(price))
    asyncio.run(projection.project(settings, database, HERE, lambda: is_trusted, turn(now)))


def publish(database: Database) -> None:
    tariff = replace(read_tariff(TARIFF), effective=0)
    published(database, tariff, text=TARIFF.read_text())


def test_the_next_month_is_projected_with_a_band_of_every_account_class_and_the_town(database: Database) -> None:
    publish(database)
    # Complete until September 2026; October, the present month, has begun.
    store_months(database, month_number("2021-10"), 60)
    project_month(database, noon("2026-10-20"))
    target = month_number("2026-11")
    with database.reads.begin() as connection:
        view = projection_view(connection, Scope.TOWN)
        rows = connection.execute(select(usage_projection)).all()
        c = usage_month.c
        wanted = select(c.subject, c.imported).where(c.month == target - 12, c.scope == Scope.ACCOUNT)
        last_year = {row.subject: row.imported for row in connection.execute(wanted)}
    assert (view["month"], view["tariffs"], view["known_months"]) == (target, "town v1", 60)
    assert {row.month for row in rows} == {target}
    assert {row["quantity"] for row in view["rows"]} == set(Projectable)
    accounts = {r.subject: r for r in rows if r.scope == Scope.ACCOUNT and r.quantity == Projectable.IMPORTED}
    assert accounts.keys() == last_year.keys()
    for number, row in accounts.items():
        assert row.low < row.middle < row.high
        assert 0.6 * last_year[number] < row.middle < 1.6 * last_year[number]
    count, held = view["tested"]["imported"]
    assert count >= 500
    assert 0.7 < held < 0.9
    # A tenth of the town's tariff is the regional price: what is bought costs less than what is sold.
    money = {row["quantity"]: row for row in view["rows"]}
    assert 0 < money[Projectable.COST]["low"] < money[Projectable.COST]["high"] < money[Projectable.REVENUE]["low"]
    assert {each["scenario"] for each in view["scenarios"]} >= {STEADY}


def test_a_projection_stays_as_it_was_made_once_its_month_has_begun(database: Database) -> None:
    store_months(database, month_number("2023-01"), 45)
    project_month(database, noon("2026-10-31"))
    with database.reads.begin() as connection:
        before = connection.execute(select(usage_projection)).all()
    store_months(database, month_number("2026-10"), 1, seed=9)
    project_month(database, noon("2026-11-01"))
    with database.reads.begin() as connection:
        after = connection.execute(select(usage_projection)).all()
    assert set(before) < set(after)
    assert {row.month for row in after} - {row.month for row in before} == {month_number("2026-12")}


def test_without_a_past_a_tariff_a_price_or_a_clock_less_is_projected(database: Database) -> None:
    project_month(database, noon("2026-10-20"))
    with database.reads.begin() as connection:
        assert projection_view(connection, Scope.TOWN)["rows"] == []
    store_months(database, month_number("2026-08"), 2)
    project_month(database, noon("2026-10-20"), price=None)
    with database.reads.begin() as connection:
        view = projection_view(connection, Scope.TOWN)
        assert projection_view(connection, Scope.ACCOUNT)["rows"] == []
    assert {row["quantity"] for row in view["rows"]} == {Projectable.IMPORTED, Projectable.EXPORTED, Projectable.USED}
    assert {row["low"] for row in view["rows"]} == {None}
    assert (view["tariffs"], view["regional_price"], view["scenarios"]) == (None, None, [])
    project_month(database, noon("2027-01-20"), is_trusted=False)
    with database.reads.begin() as connection:
        assert projection_view(connection, Scope.TOWN)["month"] == month_number("2026-11")


def test_revenue_of_a_month_is_near_its_bills(database: Database) -> None:
    publish(database)
    month = "2026-10"
    columns = columns_of(month_number(month), NEW_YORK)
    with database.reads.begin() as connection:
        members = list(owners(connection).values())
    for day in columns.days:
        settle(database, members, random_day(members, day))
    asyncio.run(take_in(database, HERE, turn(0)))
    with database.reads.begin() as connection:
        estimate = revenue(connection, columns.month, rates_in_force(connection, columns.month, "town"))
        inputs = RunInputs(
            month=month,
            timezone=NEW_YORK.key,
            registry=billing_sources.load_registry(connection),
            tariffs=tariffs.published(connection),
            default="town",
        )
        newest = billing_sources.newest_settled(connection)
    billed = bills_of(inputs, billing_sources.settled_as_of(database, newest)).billed
    total = float(sum(each.bill.total for each in billed.values()))
    assert estimate[-1] == pytest.approx(total, rel=0.01)
    assert estimate[:-1].sum() == pytest.approx(estimate[-1])


def test_scenarios_add_up() -> None:
    last = YearBefore(used=1000, generated=400, imported=650, exported=50, used_before=950)
    found = {(each.scenario, each.year): each for each in scenarios(last)}
    for each in found.values():
        # What is used more is taken, what is used less is given: the balance of the last year stays.
        assert each.imported - each.exported - each.used == last.imported - last.exported - last.used
    assert found[STEADY, 5].used == 1000
    assert found["3 % more each year", 5].imported == 650 + round(1000 * 1.03**5) - 1000
    assert json.dumps([vars(each) for each in found.values()])
    assert np.isfinite([each.used for each in found.values()]).all()


def test_people_see_the_projection_and_the_scenarios(database: Database, tmp_path: Path, url: str) -> None:
    publish(database)
    config = tmp_path / "utility.toml"
    config.write_text(f'[utility]\ndatabase = "{url}"\n')
    assert shown(config, "projection", "scope=town")["month"] is None
    store_months(database, month_number("2021-10"), 60)
    project_month(database, noon("2026-10-20"))
    town = shown(config, "projection", "scope=town")
    assert town["month"] == "2026-11"
    assert {one["scenario"] for one in town["scenarios"]} >= {"3 % more each year"}
    assert shown(config, "projection", "scope=account", "name=17")["figures"]
