"""Two people, two windows: what one silences in two taps, the other sees on every page within five seconds."""

import re
from collections.abc import Callable, Iterator

import pytest
from fastapi import FastAPI
from playwright.sync_api import expect

from harness.browser import Visit
from utility.access.people import Role
from utility.alarms.conditions import UtilityFacts
from utility.alarms.decisions import alarms_of
from utility.webkit.console.console import Console
from utility.webkit.services import Api


@pytest.fixture
def api(application: FastAPI) -> Iterator[Api]:
    """The utility, with a gateway that is silent; afterwards it is as it was, for the tests of other files."""
    console: Console = application.state.console
    alarms, clock = alarms_of(console.api), console.api.clock
    facts = alarms._facts
    object.__setattr__(alarms, "_facts", lambda _: UtilityFacts(silent_s={"r001": 400.0}))
    began = clock.origin
    for _ in range(2):
        alarms.look()
        clock.origin += 200
    alarms.look()
    alarms.save()
    clock.origin = began + 400
    yield console.api
    object.__setattr__(alarms, "_facts", facts)
    clock.origin = began


def test_silence_takes_two_taps_and_shows_on_every_page_within_a_second(api: Api, window: Callable[..., Visit]) -> None:
    operator, viewer = window(Role.OPERATOR, width=360, touch=True), window(Role.VIEWER)
    viewer.open("/console/quarantine")
    count = viewer.page.locator("#alarm-count")
    expect(count).to_contain_text("1 critical")
    operator.open("/console/alarms")
    operator.page.get_by_role("link", name="Silence or acknowledge").tap()
    expect(operator.page.get_by_role("button", name="1 hour").first).to_be_visible()
    assert not operator.check()
    operator.page.get_by_role("button", name="1 hour").first.tap()
    expect(count).to_contain_text("1 silenced")
    expect(count).not_to_contain_text("no alarm")
    assert not viewer.check()
    expect(operator.page.locator("#board")).to_contain_text("suppressed")
    assert not operator.check()
    operator.page.get_by_role("button", name=re.compile("End the silence")).tap()
    expect(count).to_contain_text("1 critical")
    operator.page.get_by_text("The silence is over").wait_for()
    operator.open("/console/alarms/maintenance")
    assert not operator.check()
    assert alarms_of(api).board().silences == ()


def test_list_that_is_renewed_keeps_the_focus_of_the_keyboard(api: Api, window: Callable[..., Visit]) -> None:
    viewer = window(Role.VIEWER)
    viewer.open("/console/alarms")
    link = viewer.page.get_by_role("link", name="Look")
    link.focus()
    viewer.page.evaluate("document.querySelector('#board').dataset.old = 'yes'")
    api.clock.origin += 60
    expect(viewer.page.locator("#board")).not_to_have_attribute("data-old", "yes")
    expect(link).to_be_focused()


def test_count_says_when_the_utility_does_not_answer_and_is_well_again_by_itself(
    api: Api, window: Callable[..., Visit]
) -> None:
    del api
    viewer = window(Role.VIEWER)
    for part in ("**/alarms/count*", "**/console/events*"):
        viewer.page.route(part, lambda route: route.abort())
    viewer.open("/console/quarantine")
    count = viewer.page.locator("#alarm-count")
    expect(count).to_contain_text("No answer from the utility since")
    expect(count).to_contain_text("1 critical")
    viewer.page.unroute("**/alarms/count*")  # without a stream the page asks every few seconds
    expect(count).not_to_contain_text("No answer")
