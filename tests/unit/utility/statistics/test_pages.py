"""The page and the API of statistics: rows, pages, plots, the projection in words, a resident's own account only."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from harness.console import Browser
from harness.surroundings.stored import store_months
from tests.unit.utility.conftest import NOW
from utility.access.people import Role
from utility.database.database import Database
from utility.jobs.plans import HERE, Period
from utility.jobs.store import Turn
from utility.settings import BillingSettings
from utility.statistics.jobs import project
from utility.statistics.months import month_number

Browsers = Callable[..., Browser]

LAST = "2026-12"  # the last whole month: it is January 2027


@pytest.fixture
def filled(database: Database) -> Database:
    store_months(database, month_number("2022-01"), 60)
    settings = BillingSettings(regional_price=Decimal("0.10"))
    turn = Turn(job="projection", period=Period(start=NOW, end=NOW, name=""), attempt=1, now=NOW)
    asyncio.run(project(settings, database, HERE, lambda: True, turn))
    return database


@pytest.mark.usefixtures("filled")
def test_the_page_shows_the_past_the_next_month_and_five_years(browser: Browsers) -> None:
    viewer = browser(Role.VIEWER)
    page = viewer.get("/console/statistics")
    assert page.status_code == 200
    assert "The next month, 2027-02" in page.text
    assert "in 8 of 10 months between" in page.text
    assert "months of this town&#39;s own past" in page.text
    assert "3 % more each year" in page.text
    assert len(page.content) < 150_000
    accounts = viewer.get("/console/statistics?scope=account&by=five_years").text
    assert accounts.count("name=") >= 4
    one = viewer.get("/console/statistics?scope=account&by=year&name=2").text
    assert '<th scope="row">2026</th>' in one
    assert "months.json?scope=account&amp;name=2" in one
    plot = viewer.get("/console/statistics/months.json?scope=account&name=2").json()
    assert [len(each["x"]) for each in plot["series"]] == [60, 60, 60, 1, 1]
    assert plot["series"][3]["high"][0] < plot["series"][4]["high"][0]
    shape = viewer.get("/console/statistics/shape.json?scope=town&name=town&by=year").json()
    assert {each["label"] for each in shape["series"]} >= {
        "Taken from the town, weekdays",
        "Taken from the town, weekends",
    }
    november = viewer.get("/console/statistics/shape.json?scope=town&name=town&by=month&month=2026-11").json()
    assert local_hours(november["series"][0]["x"]) == list(range(24))
    assert viewer.get("/console/statistics?scope=account&name=nobody").status_code == 404
    assert viewer.get("/console/statistics?month=2026-13").status_code == 422


def local_hours(times: list[int]) -> list[int]:
    return [datetime.fromtimestamp(time, ZoneInfo("America/New_York")).hour for time in times]


def test_a_town_without_a_settled_day_is_told_so(browser: Browsers) -> None:
    page = browser(Role.VIEWER).get("/console/statistics").text
    assert "There is nothing yet" in page
    assert "Nothing is projected yet" in page
    assert browser(Role.VIEWER).get("/projection").json()["figures"] == []


@pytest.mark.usefixtures("filled")
def test_programs_get_pages_of_usage_and_residents_their_own_account(browser: Browsers) -> None:
    viewer, resident = browser(Role.VIEWER), browser(Role.RESIDENT, account=2)
    first = viewer.get("/statistics?scope=account&limit=2").json()
    assert [row["number"] for row in first["usage"]] == [1, 2]
    second = viewer.get(f"/statistics?scope=account&limit=2&after={first['next']}").json()
    assert [row["number"] for row in second["usage"]] == [3, 4]
    row = first["usage"][1]
    assert (row["period"], row["start"], row["end"]) == (LAST, "2026-12-01T05:00:00Z", "2027-01-01T05:00:00Z")
    own = resident.get("/statistics/own?by=month").json()["usage"]
    assert (len(own), own[0]) == (60, row)
    assert {figure["number"] for figure in resident.get("/projection/own").json()["figures"]} == {2}
    for path in ("/statistics?scope=account&name=1", "/projection?scope=account&name=1", "/console/statistics"):
        assert resident.get(path).status_code == 403
    figures = viewer.get("/projection").json()
    assert figures["month"] == "2027-02"
    assert {figure["quantity"]: figure["unit"] for figure in figures["figures"]}["cost"] == "cents"
    assert figures["tested"][0]["months"] > 100
    assert viewer.get("/statistics?scope=microgrid&name=r009").status_code == 404
