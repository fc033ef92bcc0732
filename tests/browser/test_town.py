"""The town's page in a real browser: it follows the town by itself, and the tour's steps."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from fastapi import FastAPI
from playwright.sync_api import Browser, Route, expect

from commonwatt.demo.tour import ORDERS, STAGE, STEPS, Tour
from harness.browser import Visit, by_keyboard, served, visit
from harness.console import Browser as Person
from harness.console import standing_api
from harness.settlement.emulated import small_town
from harness.surroundings.messages import a_heartbeat, register_in
from tests.browser.conftest import METER, NOW
from utility.access.people import Role
from utility.assembly.application import make_app
from utility.database.database import open_database
from utility.outbox.changes import SawGateway
from utility.readings.store.writer import Writer
from utility.registry.store.registration import fill_registry
from utility.settings import UtilitySettings
from utility.webkit.console.console import Console

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


def seen(application: FastAPI, time: int) -> None:
    console: Console = application.state.console
    Writer(console.database).commit([SawGateway(controller="r001", time=time, heartbeat=a_heartbeat(trust=3))])


def test_the_town_changes_without_a_reload_and_says_when_nothing_answers(chrome: Browser, application: FastAPI) -> None:
    person = Person(application, Role.VIEWER, name="watcher")
    with served(application) as address:
        window = visit(chrome, address, person)
        window.open("/console/town")
        assert window.page.locator("#m-r001.late").count() == 0
        seen(application, NOW - 200)
        window.page.wait_for_selector("#m-r001.late")
        window.page.check("#by-state")
        sign = "e => getComputedStyle(e, '::before').content"
        assert "◐" in window.page.locator("#m-r001").evaluate(sign), "a state has a sign besides its colour"
        assert window.check() == []
        values = window.page.locator("#live dt").count()
        seen(application, NOW - 20)
    told = window.page.wait_for_selector("p.stale")
    assert told is not None
    assert "No answer from the utility since" in told.inner_text()
    assert window.page.locator("#live dt").count() == values > 0, "the values before stay"
    window.page.context.close()


FOCUSED = "document.activeElement.getAttribute('href')"


def test_a_late_answer_of_the_search_leaves_the_focus_where_the_person_is(window: Callable[..., Visit]) -> None:
    viewer = window(Role.VIEWER)
    viewer.open("/console/microgrids")
    keys = viewer.page.keyboard
    keys.press("/")
    keys.type("1000")
    viewer.page.wait_for_selector("#found a[href='/console/meters/10001']")
    held: list[Route] = []
    viewer.page.route("**/console/find/results?text=10001", lambda route: held.append(route))
    with viewer.page.expect_request("**/console/find/results?text=10001"):
        keys.type("1")
    keys.press("ArrowDown")
    before = viewer.page.evaluate(FOCUSED)
    with viewer.page.expect_response("**/console/find/results?text=10001"):
        held[0].continue_()
    viewer.page.wait_for_function("document.querySelectorAll('#found a').length < 2")
    assert before == "/console/meters/10001"
    assert viewer.page.evaluate(FOCUSED) == before
    keys.press("Enter")
    viewer.page.wait_for_url("**/console/meters/10001")


def test_a_meter_is_found_and_its_plot_read_by_keyboard_alone(window: Callable[..., Visit]) -> None:
    viewer = window(Role.VIEWER)
    viewer.open("/console/microgrids")
    keys = viewer.page.keyboard
    keys.press("/")
    keys.type("10")
    first = viewer.page.wait_for_selector("#found a[href='/console/meters/10001']")
    assert first is not None
    keys.press("ArrowDown")
    while viewer.page.evaluate(FOCUSED) != "/console/meters/10001":
        keys.press("ArrowDown")
    keys.press("Enter")
    viewer.page.wait_for_url("**/console/meters/10001")
    viewer.open("/console/meters/10001?what=settled&from=2026-10-25&to=2026-11-02")
    viewer.page.wait_for_selector("figure canvas")
    viewer.page.focus("figure summary")
    keys.press("Enter")
    rows = viewer.page.locator("figure table.numbers tbody tr")
    rows.first.wait_for()
    assert rows.count() > 100
    assert "no value" in rows.first.inner_text(), "a gap is a gap in the table, too"
    assert viewer.check() == []


def test_a_plot_has_the_times_of_the_town(window: Callable[..., Visit], application: FastAPI) -> None:
    viewer, town = window(Role.VIEWER), small_town()
    console: Console = application.state.console
    register_in("America/Los_Angeles", console.database, town)
    try:
        viewer.open("/console/meters/10001?what=settled&from=2026-10-30&to=2026-10-30")
        viewer.page.wait_for_selector("figure canvas")
        viewer.page.click("figure summary")
        begins = viewer.page.locator("figure table.numbers tbody th")
        begins.first.wait_for()
        assert begins.first.inner_text() == "30 Oct 2026, 00:00:00 GMT-7"
    finally:
        register_in(town.table.timezone, console.database, town)


COUNTED = """{
  const close = EventSource.prototype.close;
  EventSource.prototype.close = function () {
    sessionStorage.closed = Number(sessionStorage.closed || 0) + 1;
    return close.call(this);
  };
}"""


def test_a_page_that_is_left_closes_its_stream_so_that_the_browser_reports_no_error(
    window: Callable[..., Visit],
) -> None:
    seen = window(Role.VIEWER)
    seen.page.add_init_script(COUNTED)
    for path in ("/console/town", "/console/microgrids"):
        seen.open(path)
    assert seen.page.evaluate("sessionStorage.closed") == "1"
    seen.page.go_back(wait_until="networkidle")
    assert seen.faults == []


def test_a_series_that_is_off_is_as_dark_in_the_legend_as_the_others(window: Callable[..., Visit]) -> None:
    seen = window(Role.VIEWER)
    seen.open(f"/console/meters/{METER}")
    row = seen.page.locator(".plot .u-legend tr").last
    row.wait_for()
    opacity = "row => { row.classList.add('u-off'); return getComputedStyle(row.firstElementChild).opacity; }"
    assert row.evaluate(opacity) == "1"
