"""Every page in a real browser: on a phone, by night, without a mouse, and the page of the API."""

import os
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from playwright.sync_api import Browser, expect
from starlette.routing import Match

from harness.browser import Visit, by_keyboard, html_faults, visit
from harness.console import PASSWORD, shown
from harness.console import Browser as Person
from tests.browser.conftest import METER, NOW
from utility.access.passwords import hash_password
from utility.access.people import Role
from utility.access.store import access
from utility.webkit.console.navigation import NAVIGATION
from utility.webkit.rights import COOKIE, SET_UP, Gate


def test_a_program_writer_finds_a_route_with_its_schema_and_tries_it(window: Callable[..., Visit]) -> None:
    viewer = window(Role.VIEWER)
    viewer.open("/docs")
    page = viewer.page
    page.locator("[id^=operations-assembly-status_] .opblock-summary-control").click()
    block = page.locator(".opblock.is-open")
    expect(block).to_contain_text("curl -X GET")
    expect(block).to_contain_text("httpx.get(")
    block.get_by_role("button", name="Try it out").click()
    block.get_by_role("button", name="Execute").click()
    expect(block.locator(".live-responses-table")).to_contain_text("head_end_connected")
    assert viewer.faults == []


ACCOUNT = 1
FILES = (".json", ".pdf", ".csv", ".html", "/pdf", "/receipt", "/energy", "/openapi.json", "/docs", "/runbooks")
"""The ends of addresses that are no pages of the console."""
PAGES: dict[str, Role | None] = {entry.path: min(entry.roles) for entry in NAVIGATION}
PAGES |= {"/console/login": None, "/console/look": Role.ADMIN}
SIZES = (320, 768, 1280, 1920) if os.environ.get("SIZES") == "all" else (320,)  # widths of windows; ``make soak``: all
THEMES = (True, False) if os.environ.get("SIZES") == "all" else (True,)  # dark or light
LAYOUT_FAULTS = """() => {
  const head = document.querySelector(".top"), faults = [];
  if (head.offsetHeight >= 2 * parseFloat(getComputedStyle(head.querySelector("h1")).lineHeight)) {
    faults.push("the head has more than one line");
  }
  for (const caption of [...document.querySelectorAll("caption")].filter(each => each.checkVisibility())) {
    caption.scrollIntoView({block: "center"});
    const {left, top} = caption.getBoundingClientRect();
    if (!caption.contains(document.elementFromPoint(left + 1, top + 2))) {
      faults.push(`the caption "${caption.textContent}" is cut`);
    }
  }
  const [left, right] = document.querySelectorAll("#live > :is(.c8, .stack)");
  if (right && left.offsetHeight !== right.offsetHeight) faults.push("a field below a card is empty");
  return faults; }"""
CUT = """() => {
  const isMeant = "textarea, pre, code, input, select, .words, thead, figure.overflow-auto, .plot *, [popover] *";
  const faults = [];
  for (const each of document.querySelectorAll("body *")) {
    if (each.closest(isMeant) || each.closest("table:not(.list)") || !each.checkVisibility()) continue;
    const {left, right} = each.getBoundingClientRect();
    if (each.closest("svg")) {
      const box = each.closest("svg").getBoundingClientRect();
      if (each.matches("text") && (left < box.left - 1 || right > box.right + 1)) faults.push(each);
    } else if (getComputedStyle(each).overflowX !== "visible" && each.scrollWidth > each.clientWidth + 1) {
      faults.push(each);
    } else if (left < document.documentElement.clientWidth && right > document.documentElement.clientWidth + 1) {
      faults.push(each);
    }
  }
  return faults.map(each => `${each.tagName} is cut: ${each.textContent.replace(/\\s+/g, " ").slice(0, 60)}`); }"""
"""What a person would have to scroll sideways for, besides tables of numbers; and words that leave their picture."""


@pytest.fixture(scope="module")
def windows(chrome: Browser, address: str, application: FastAPI) -> Iterator[Callable[[Role | None], Visit]]:
    """Return the window of a role, in which one page is opened after the other."""
    opened: dict[Role | None, Visit] = {}

    def window_of(role: Role | None) -> Visit:
        if role not in opened:
            account = ACCOUNT if role is Role.RESIDENT else None
            person = None if role is None else Person(application, role, name=role.value, account=account)
            opened[role] = visit(chrome, address, person)
        opened[role].faults.clear()
        return opened[role]

    yield window_of
    for one in opened.values():
        one.page.context.close()


@pytest.mark.parametrize("path", PAGES)
def test_page_is_accessible_and_valid(windows: Callable[[Role | None], Visit], path: str) -> None:
    seen = windows(PAGES[path])
    seen.open(path)
    assert not (faults := seen.check() + seen.page.evaluate(LAYOUT_FAULTS)), "\n".join(faults)


@pytest.mark.parametrize("dark", THEMES)
@pytest.mark.parametrize("width", SIZES)
@pytest.mark.parametrize(
    ("role", "language"),
    [(None, "en"), (Role.RESIDENT, "en"), (Role.RESIDENT, "de"), (Role.RESIDENT, "es")],
    ids=["staff", "resident", "resident-de", "resident-es"],
)
def test_every_page_that_links_lead_to_fits_the_window(
    application: FastAPI, window: Callable[..., Visit], role: Role | None, language: str, *, width: int, dark: bool
) -> None:
    roles = frozenset(Role) - {Role.RESIDENT} if role is None else {role}
    seen = window(*roles, account=ACCOUNT if role is Role.RESIDENT else None, width=width, dark=dark)
    seen.page.set_extra_http_headers({"Accept-Language": language})
    found: dict[str, list[str]] = {}
    todo = ["/console/"] if role else ["/console/", "/console/look"]
    while todo:
        path = todo.pop(0)
        template = _template(application, path)
        if template is None or template in found:
            continue
        seen.faults.clear()
        seen.open(path)
        assert seen.page.get_attribute("html", "lang") == language
        found[template] = seen.check() + (seen.page.evaluate(CUT) if width < 400 else [])
        links = seen.page.eval_on_selector_all(
            "a[href^='/']:not([download])", "all => all.map(a => a.getAttribute('href'))"
        )
        todo += [str(link).partition("#")[0] for link in links]
    assert len(found) > (20 if role is None else 3), sorted(found)
    faults = [f"{template}: {fault}" for template, each in found.items() for fault in each]
    assert not faults, "\n".join(faults)


def _template(application: FastAPI, path: str) -> str | None:
    """Return the route of a page's address; ``None``: it is no page but a file."""
    scope = {"type": "http", "path": urlsplit(path).path, "method": "GET", "headers": []}
    for route in application.routes:
        if route.matches(scope)[0] is Match.FULL and isinstance(route, APIRoute):
            is_file = route.path.startswith("/console/static") or route.path.endswith(FILES)
            return None if is_file else route.path
    return None


def test_person_logs_in_and_out_by_keyboard_alone(application: FastAPI, window: Callable[..., Visit]) -> None:
    gate: Gate = application.state.gate
    eve = access.Person(
        name="eve", display="Eve", state="invited", roles=frozenset({Role.VIEWER}), account=None, created=gate.now()
    )
    with gate.database.writes.begin() as connection:
        access.add_person(connection, eve, "test")
        secret = access.invite(connection, "eve", "test", gate.now())
    seen = window(width=360)
    seen.open(f"/console/invitation/{secret}")
    assert not seen.check()
    page = seen.page
    page.focus("#password")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: "invitation" not in url)
    cookies = page.context.cookies()
    assert [(c["name"], c["httpOnly"], c["secure"]) for c in cookies] == [(COOKIE, True, True)]
    by_keyboard(page.locator(".account"))
    page.wait_for_url("**/console/account")
    by_keyboard(page.locator("main").get_by_role("button", name="Log out").first)
    page.wait_for_url("**/console/login*")
    page.locator("#name:focus").wait_for()  # the cursor is in the first field
    page.keyboard.type("eve")
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    page.locator(".account").wait_for()


def test_person_sets_up_the_second_factor_on_a_phone_and_logs_in_with_it(
    application: FastAPI, window: Callable[..., Visit]
) -> None:
    gate: Gate = application.state.gate
    zoe = access.Person(
        name="zoe", display="Zoe", state="active", roles=frozenset({Role.CLERK}), account=None, created=gate.now()
    )
    with gate.database.writes.begin() as connection:
        access.add_person(connection, zoe, "test")
        access.set_password(connection, "zoe", hash_password(PASSWORD))
    seen = window(width=360, dark=True)
    page = seen.page

    def types(*texts: str) -> None:
        """Type texts from the present field on, send the form, and check the page that comes."""
        for text in texts[:-1]:
            page.keyboard.type(text)
            page.keyboard.press("Tab")
        page.keyboard.type(texts[-1])
        with page.expect_navigation() as answer:
            page.keyboard.press("Enter")
        seen.faults += html_faults(answer.value.text())
        assert seen.check() == []

    seen.open("/console/login")
    types("zoe", PASSWORD)
    seen.open(SET_UP)
    page.get_by_label("Present password").focus()
    types(PASSWORD)
    assert (page.locator("svg.qr").bounding_box() or {"width": 0})["width"] > 200
    seed = page.locator("input[name=secret]").input_value()
    page.get_by_label("Code of the app").focus()
    types(shown(seed, gate.now()))
    assert page.locator("ol code").count() == 10
    page.context.clear_cookies()
    seen.open("/console/login")
    types("zoe", PASSWORD)
    page.locator("[name=code]:focus").wait_for()
    types(shown(seed, gate.now() + 30))  # the first code was used
    page.locator(".account").wait_for()


def test_page_is_fresh_at_once_when_its_laptop_wakes_up(window: Callable[..., Visit]) -> None:
    seen = window(Role.VIEWER)
    seen.page.clock.install(time=NOW)
    seen.open("/console/town")
    seen.page.clock.pause_at(NOW + 3600)  # later than any load takes: only waking up makes it ask
    for event in ("document.dispatchEvent(new Event('visibilitychange'))", "window.dispatchEvent(new Event('online'))"):
        with seen.page.expect_response("**/console/town/live*") as answer:
            seen.page.evaluate(event)
        assert answer.value.status in (200, 304)


def test_meter_is_found_with_three_keystrokes(window: Callable[..., Visit]) -> None:
    seen = window(Role.VIEWER)
    seen.open("/console/town")
    seen.page.keyboard.press("/")
    seen.page.keyboard.insert_text(str(METER))  # pasted
    seen.page.keyboard.press("Enter")
    seen.page.wait_for_url(f"**/console/meters/{METER}")
    assert seen.check() == []


LONG_HEAD = """() => {
  document.querySelector("h1").textContent = "What the next tariff would cost each home";
  document.querySelector("#alarm-count a").textContent = "■ 12 critical ▲ 34 warnings ○ 5 silenced ○ 6 acknowledged";
  document.querySelector(".top .account").append(" Alexandra Wojciechowska-Montgomery");
}"""
APART = """() => {
  const parts = [...document.querySelectorAll(".top > *, .top .person > li")].filter(each => each.checkVisibility());
  const boxes = parts.filter(each => !each.matches("ul")).map(each => each.getBoundingClientRect());
  return boxes.every((box, at) => !at || box.left >= boxes[at - 1].right)
    && boxes.at(-1).right <= document.documentElement.clientWidth;
}"""
HEIGHT = "document.querySelector('.top').offsetHeight"


def test_the_head_is_one_line_at_1280_pixels_whatever_stands_in_it(window: Callable[..., Visit]) -> None:
    seen = window(Role.OPERATOR)
    seen.open("/console/town")
    before = seen.page.evaluate(HEIGHT)
    seen.page.evaluate(LONG_HEAD)
    assert seen.page.evaluate(HEIGHT) == before
    assert seen.page.evaluate(APART), "a part of the head lies upon another"
    assert seen.check() == []


def test_a_person_logs_out_on_a_phone_from_any_page(window: Callable[..., Visit]) -> None:
    for account, role in ((1, Role.RESIDENT), (None, Role.VIEWER)):
        seen = window(role, account=account, width=390, touch=True)
        seen.open("/console/")
        seen.page.get_by_role("button", name="Log out").tap()
        seen.page.wait_for_url("**/console/login*")


def test_the_keyboard_skips_to_the_content_with_the_first_stop(window: Callable[..., Visit]) -> None:
    seen = window(Role.VIEWER)
    seen.open("/console/town")
    seen.page.keyboard.press("Tab")
    skip = seen.page.get_by_role("link", name="Skip to the content")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport(ratio=1)
    seen.page.keyboard.press("Enter")
    expect(seen.page.locator("#content")).to_be_focused()
    seen.page.keyboard.press("Tab")
    assert seen.page.evaluate("document.querySelector('main').contains(document.activeElement)")


def test_a_date_is_one_stop_of_the_tab_key(window: Callable[..., Visit]) -> None:
    seen = window(Role.VIEWER)
    seen.open("/console/meters/10001")
    keys, first, last = seen.page.keyboard, seen.page.locator("[name=from]"), seen.page.locator("[name=to]")
    by_keyboard(first, key="ArrowRight")
    keys.press("Tab")
    expect(last).to_be_focused()
    keys.press("Shift+Tab")
    expect(first).to_be_focused()
    keys.press("Tab")
    keys.press("Tab")
    expect(seen.page.get_by_role("button", name="Show")).to_be_focused()


def test_a_long_list_folds_what_a_phone_would_scroll_for_long(window: Callable[..., Visit]) -> None:
    seen = window(Role.VIEWER, width=390)
    seen.open("/console/meters")
    rows = seen.page.locator("table.list tbody tr")
    assert seen.page.evaluate("document.documentElement.scrollHeight") < 4000
    assert not rows.last.is_visible()
    seen.page.locator("main summary").last.click()
    expect(rows.last).to_be_visible()
    assert seen.check() == []


def test_an_engineers_word_says_its_sentence_by_touch_and_by_key(window: Callable[..., Visit]) -> None:
    for is_touched in (True, False):
        seen = window(Role.ADMIN, width=390 if is_touched else 1280, touch=is_touched)
        seen.open("/console/look")
        word, shown = seen.page.locator("main abbr"), "word => getComputedStyle(word, '::after').content"
        assert word.evaluate(shown) == "none"
        if is_touched:
            word.tap()
        else:
            by_keyboard(word, key="Shift")
        assert "sends to the utility what its meters measured" in word.evaluate(shown)
        assert seen.check() == []
