"""The main jobs of clerks, approvers and residents in a real browser, by keyboard alone or by touch on a phone."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from playwright.sync_api import Browser, Page, expect

from harness.browser import Visit, by_keyboard, visit
from harness.console import Browser as Person
from tests.browser.conftest import METER
from utility.access.roles import Role
from utility.access.store import audit_log
from utility.tariffs.store.tariffs import find_version
from utility.tariffs.week import table_of

CHECKER = Path("docs/examples/check_bill.py")


@pytest.fixture(scope="module")
def person(chrome: Browser, address: str, application: FastAPI) -> Iterator[Callable[..., Visit]]:
    """Return the window of a person by name."""
    opened: list[Visit] = []

    def make(name: str, *roles: Role, account: int | None = None, touch: bool = False) -> Visit:
        who = Person(application, *roles, name=name, account=account)
        opened.append(visit(chrome, address, who, width=390 if touch else 1280, touch=touch))
        return opened[-1]

    yield make
    for one in opened:
        one.page.context.close()


@pytest.fixture(scope="module")
def published(person: Callable[..., Visit], address: str) -> None:
    """The clerk Anna types and paints prices and proposes them; Ben, an approver, publishes them on a phone."""
    by_anna, by_ben = person("anna", Role.CLERK), person("ben", Role.APPROVER, touch=True)
    anna, ben = by_anna.page, by_ben.page
    anna.goto(f"{address}/console/rates")
    by_keyboard(anna.get_by_role("button", name="New prices"))
    by_keyboard(anna.get_by_label("What it is"), "All homes")
    by_keyboard(anna.get_by_label("Holds from"), key="1")
    anna.keyboard.type("0012026")
    by_keyboard(anna.get_by_label("Base, dollars"), "12.00")
    prices = (("Name", "Import", "Credit"), ("off-peak", "0.20", "0.10"), ("peak", "0.32", "0.16"))
    for n, texts in enumerate(prices[1:], 1):
        for column, text in zip(prices[0], texts, strict=True):
            by_keyboard(anna.get_by_label(f"{'Name of' if column == 'Name' else f'{column},'} price {n}"), text)
    by_keyboard(anna.get_by_label("Mon 00:00"), key="ArrowRight")
    for key in ["ArrowDown"] * 16 + ["2"] + ["Shift+ArrowDown"] * 4:  # Tuesday, 4 pm to 9 pm
        anna.keyboard.press(key)
    assert by_anna.check() == []
    by_keyboard(anna.get_by_role("button", name="Next: who pays"))
    expect(anna.get_by_text("accounts would have paid more")).to_be_visible()
    assert by_anna.check() == []
    by_keyboard(anna.get_by_role("button", name="Propose these prices"))
    expect(anna.get_by_text("Proposed by anna").first).to_be_visible()
    assert anna.get_by_role("button", name="Approve").count() == 0
    ben.goto(anna.url)
    ben.get_by_role("button", name="See who pays how much more, then approve").tap()
    expect(ben.get_by_text("accounts would have paid more")).to_be_visible()
    assert by_ben.check() == []
    ben.get_by_label("I have looked at who pays").tap()
    ben.get_by_role("button", name="Approve and publish").tap()
    expect(ben.get_by_text("published").first).to_be_visible()


@pytest.fixture(scope="module")
def issued(person: Callable[..., Visit], address: str, published: None) -> None:
    """Anna makes and checks the bills of October; Ben issues them."""
    del published
    anna, ben = person("anna", Role.CLERK).page, person("ben", Role.APPROVER).page
    anna.goto(f"{address}/console/runs")
    by_keyboard(anna.get_by_label("Month"), "2026-10")
    by_keyboard(anna.get_by_role("button", name="Make a draft"))
    # The page of the work goes on to the run by itself.
    by_keyboard(anna.get_by_role("button", name="Check: compute again"))
    expect(anna.get_by_text("An approver issues it").first).to_be_visible()
    ben.goto(anna.url)
    by_keyboard(ben.get_by_label("I have looked at what stands out"), key="Space")
    # One more for the account that moves in test_office.py, if it ran before.
    by_keyboard(ben.get_by_role("button", name=re.compile(r"^Issue 2[67] bills")))
    expect(ben.locator(".steps .done").nth(3)).to_contain_text("ben")


@pytest.mark.usefixtures("issued")
def test_resident_downloads_a_receipt_that_the_checker_accepts(person: Callable[..., Visit], tmp_path: Path) -> None:
    seen = person("resident-1", Role.RESIDENT, account=1)
    seen.open("/console/home")
    by_keyboard(seen.page.get_by_role("link", name="Oct"))
    with seen.page.expect_download() as download:
        by_keyboard(seen.page.get_by_role("link", name="Its receipt"))
    receipt = tmp_path / "receipt.json"
    download.value.save_as(receipt)
    done = subprocess.run([sys.executable, CHECKER, receipt], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert seen.check() == []


@pytest.mark.usefixtures("published")
def test_painted_hours_are_those_of_the_published_prices(application: FastAPI) -> None:
    with application.state.gate.database.reads.begin() as connection:
        tariff = find_version(connection, "town", 1).tariff
    table = table_of(tariff.file)[0]
    assert (table[1, 64:84] == 1).all()  # peak
    assert table.sum() == 20


def stroke(page: Page, first: str, last: str) -> None:
    """Draw a fast finger, which the browser sees three times, from a cell to another one over those between."""
    for name in (last, first):  # A touch outside of the window paints nothing.
        page.get_by_label(name).scroll_into_view_if_needed()
    boxes = [page.get_by_label(name).bounding_box() for name in (first, last)]
    (x, y), (_, end) = ((box["x"] + box["width"] / 2, box["y"] + box["height"] / 2) for box in boxes if box)
    finger = page.context.new_cdp_session(page)
    finger.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
    for part in (0.5, 1):
        points = [{"x": x, "y": y + (end - y) * part}]
        finger.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": points})
    finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


@pytest.mark.usefixtures("published")
def test_clerk_paints_hours_and_sees_who_pays_by_touch(person: Callable[..., Visit]) -> None:
    seen = person("clara", Role.CLERK, touch=True)
    page = seen.page
    seen.open("/console/rates")
    page.get_by_role("button", name="New prices").tap()
    page.get_by_label("Holds from").fill("2026-12-01")
    page.locator("label.brush").nth(1).tap()
    page.get_by_role("button", name="Wed", exact=True).tap()
    page.get_by_label("Mon 00:00").tap()
    for painted in ("Wed 00:00: price 2", "Wed 23:00: price 2", "Mon 00:00: price 2", "Mon 01:00: price 1"):
        expect(page.get_by_label(painted)).to_be_visible()
    sentence = page.locator("#effect p").first
    expect(sentence).to_contain_text("accounts would have paid more in 2026-10")
    before = sentence.inner_text()
    stroke(page, "Fri 06:00", "Fri 11:00")
    expect(page.get_by_label("Fri 09:00: price 2")).to_be_visible()
    expect(page.get_by_label("Sat 09:00: price 1")).to_be_visible()
    expect(sentence).not_to_have_text(before)
    expect(page.locator("#effect .histogram")).to_be_visible()
    page.get_by_label("Import, price 2").fill("dear")
    expect(page.locator("#effect")).to_contain_text("import 2: must be dollars")
    page.get_by_label("Import, price 2").fill("0.32")
    expect(page.locator("#effect .histogram")).to_be_visible()
    assert seen.check() == []
    page.get_by_role("button", name="Next: who pays").tap()
    expect(page.get_by_text("accounts would have paid more")).to_be_visible()
    assert seen.check() == []


@pytest.mark.usefixtures("issued")
def test_clerk_goes_from_a_run_to_a_bill_and_its_quarter_hours(person: Callable[..., Visit]) -> None:
    seen = person("anna", Role.CLERK)
    for path in ("/console/runs/1", "/console/runs/1/bills", "/console/runs"):
        seen.open(path)
        assert seen.check() == []
    by_keyboard(seen.page.get_by_role("link", name="Open").first)
    by_keyboard(seen.page.get_by_role("link", name="2026-10"))
    expect(seen.page.get_by_role("heading", name="From the base to the sum")).to_be_visible()
    seen.page.get_by_text("Day by day").click()
    by_keyboard(seen.page.get_by_role("link", name="2026-10-31"))
    expect(seen.page.get_by_text("Hours of 2026-10-31", exact=True)).to_be_visible()
    assert seen.check() == []
    seen.open("/console/bills/1/1")
    expect(seen.page.get_by_role("heading", level=1)).to_be_visible()
    assert seen.check() == []


def test_clerk_releases_a_quarantined_reading_which_then_counts(
    person: Callable[..., Visit], application: FastAPI
) -> None:
    seen = person("anna", Role.CLERK)
    seen.open("/console/quarantine")
    page = seen.page
    expect(page.get_by_role("cell", name=str(METER))).to_be_visible()
    by_keyboard(page.get_by_role("link", name="250001"))
    expect(page.get_by_role("heading", name="Quarantined reading")).to_be_visible()
    assert seen.check() == []
    by_keyboard(page.get_by_label("Reason"), "a welder, as the owner says")
    by_keyboard(page.get_by_role("button", name="Release it"))
    expect(page.get_by_text("No reading waits")).to_be_visible()
    with application.state.gate.database.reads.begin() as connection:
        (entry,) = audit_log.entries(connection, audit_log.Wanted(person="anna", subject="dead letter"), 1)
    assert "welder" in str(entry["after"])
