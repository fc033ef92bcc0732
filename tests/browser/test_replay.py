"""The council's page in a browser, on a phone by night: a stored day with a dead feeder, and who goes dark."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from commonwatt.demo.layout import STARTS_AT
from commonwatt.demo.parts import unpack
from harness.browser import Visit, served, visit
from harness.console import Browser as Person
from harness.console import standing_api
from utility.access.people import Role
from utility.assembly.application import make_app
from utility.database.database import open_database


@pytest.fixture
def seen(chrome: Browser, tmp_path: Path) -> Iterator[Visit]:
    """A viewer's window before the demonstration's past."""
    unpack(tmp_path)
    database = open_database(f"sqlite:///{tmp_path / 'utility' / 'utility.db'}", create=False)
    app = make_app(standing_api(database, STARTS_AT))
    with served(app) as address:
        yield visit(chrome, address, Person(app, Role.VIEWER), width=360, dark=True)
    database.close()


def test_a_viewer_cuts_a_feeder_on_a_stored_day_and_sees_who_goes_dark(seen: Visit) -> None:
    page = seen.page
    seen.open("/console/replay")
    assert not (faults := seen.check()), "\n".join(faults)
    page.get_by_label("First day").fill("2026-06-15")
    page.get_by_label("Last day").fill("2026-06-15")
    page.get_by_label("Capacity, kWh").fill("many")
    page.get_by_role("button", name="Run these days again").click()
    expect(page.get_by_role("alert")).to_contain_text("kwh")
    assert page.get_by_label("First day").input_value() == "2026-06-15", "what was filled in stays"
    seen.faults.clear()  # Chromium reports the answer 422.
    page.get_by_label("Capacity, kWh").fill("4")
    page.get_by_role("group", name="A dead feeder").get_by_label("Microgrid").fill("r001")
    page.get_by_label("Begins, hours").fill("2")
    page.get_by_label("For, hours").fill("16")
    page.get_by_role("button", name="Run these days again").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("2026-06-15, otherwise")
    assert not (faults := seen.check()), "\n".join(faults)
    expect(page.get_by_text("With nothing changed, the replay gives")).to_be_visible()
    rows = page.request.get(page.url + "/rows.json").json()
    assert rows["worst_percent"] <= 1
    assert {row["microgrid"] for row in rows["who goes dark, who helps"] if row["would_be_dark_h"]} == {"r001"}
