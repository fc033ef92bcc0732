"""What a phone, a narrow head and a keyboard reach: nothing is cut, one line, one stop of the Tab key a field."""

from collections.abc import Callable

from playwright.sync_api import expect

from harness.browser import Visit, by_keyboard
from utility.access.roles import Role

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
