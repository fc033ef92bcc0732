"""The tour of a demonstration in a browser: a button orders a step, and the page shows by itself how far it is."""

import json
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from commonwatt.config.utility import UtilitySettings
from commonwatt.demo.tour import ORDERS, STAGE, STEPS, Tour
from harness.browser import Visit, by_keyboard, served, visit
from harness.console import Browser as Person
from harness.console import standing_api
from harness.settlement.emulated import small_town
from tests.browser.conftest import NOW
from utility.access.roles import Role
from utility.assembly.application import make_app
from utility.database.database import open_database
from utility.registry.store.registration import fill_registry

ISLAND = {"at": NOW, "what": "r001 is an island.", "does": "Its switch is open.", "page": "/console/town"}


def show(folder: Path, tour: Tour, is_good: bool, *said: dict[str, object]) -> None:
    audit = {"is_good": is_good, "words": "audit: it is good" if is_good else "audit: it is not good"}
    (folder / STAGE).write_text(json.dumps({"audit": audit, "said": said, "steps": tour.shown()}))


@pytest.fixture
def operator(chrome: Browser, tmp_path: Path) -> Iterator[Visit]:
    settings = UtilitySettings(second_factor="optional", clock=tmp_path / "clock.json")
    with closing(open_database(f"sqlite:///{tmp_path}/utility.db", create=True)) as database:
        with database.writes.begin() as connection:
            fill_registry(connection, small_town())
        app = make_app(standing_api(database, NOW, settings=settings, machine_s=lambda: int(time.time())))
        with served(app) as address:
            yield visit(chrome, address, Person(app, Role.OPERATOR), width=320, dark=True)


def test_a_button_orders_a_step_and_the_page_follows_it(operator: Visit, tmp_path: Path) -> None:
    tour, page = Tour(STEPS), operator.page
    (tmp_path / ORDERS).mkdir()
    show(tmp_path, tour, True)
    operator.open("/console/tour")
    assert not (faults := operator.check()), "\n".join(faults)
    by_keyboard(page.get_by_role("button", name="Cut a feeder"))
    expect(page.get_by_role("status")).to_have_text("Cut a feeder: the supervisor does it now")
    assert [one.name for one in (tmp_path / ORDERS).iterdir()] == ["feeder"]
    button = page.get_by_role("button", name="Supply LOW")
    button.focus()
    tour.handle(["feeder"], NOW, "")
    show(tmp_path, tour, False, ISLAND)
    expect(page.locator("#stage")).to_contain_text("audit: it is not good")
    expect(page.locator("#stage")).to_contain_text("r001 is an island.")
    expect(page.locator("#state-feeder")).to_contain_text("running since")
    tour.handle([], NOW + 1, "", ["r001"])
    tour.handle([], NOW + 9999, "audit: it is good")
    show(tmp_path, tour, True, ISLAND)
    expect(page.locator("#stage .good")).to_contain_text("audit: it is good")
    expect(page.locator("#state-feeder")).to_contain_text("well again since")
    expect(button).to_be_focused()
    assert page.locator("#stage").count() == page.locator("#state-feeder").count() == 1
    assert not (faults := operator.check()), "\n".join(faults)
