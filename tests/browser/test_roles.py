"""The main jobs of every role in a real browser, by keyboard alone or by touch on a phone."""

import hashlib
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi import FastAPI
from playwright.sync_api import Browser, Page, expect

from commonwatt.model.calendar import parse_time
from harness.browser import Visit, by_keyboard, press, visit
from harness.console import PASSWORD
from harness.console import Browser as Person
from tests.browser.conftest import METER, NOW
from utility.access.people import Role
from utility.access.store import audit_log
from utility.database.database import Database
from utility.research import store
from utility.research.documents import ReleaseFacts, data_columns, made_rows, name_columns
from utility.research.jobs.files import DataFile, EnergyBlock, write_release
from utility.research.release import AskedRelease, Tier
from utility.tariffs.file import table_of
from utility.tariffs.store import find_version


@pytest.mark.parametrize("is_touched", [False, True], ids=["keys", "touch"])
def test_administrator_invites_a_person_copies_the_link_and_disables_the_person(
    window: Callable[..., Visit], tmp_path: Path, *, is_touched: bool
) -> None:
    name = "tina" if is_touched else "kim"
    seen = window(Role.ADMIN, width=390 if is_touched else 1280, touch=is_touched)
    page = seen.page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])

    seen.open("/console/users")
    invite = page.locator("form", has=page.get_by_role("button", name="Make the invitation"))
    by_keyboard(invite.get_by_label("Name at login"), name)
    by_keyboard(invite.get_by_label("viewer"), key="Space")
    by_keyboard(invite.get_by_label("Present password"), PASSWORD)
    press(page.get_by_role("button", name="Make the invitation"), is_touched)
    link = page.get_by_label("The link", exact=True).input_value()
    expect(page.get_by_text("It opens on this computer alone")).to_be_visible()
    press(page.get_by_role("button", name="Copy"), is_touched)
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == link
    assert seen.check() == []
    disable = page.get_by_role("button", name=f"Yes, disable {name}")
    expect(disable).to_be_hidden()
    press(page.get_by_role("button", name="Disable:"), is_touched)
    press(disable, is_touched)
    expect(page.get_by_text(f"{name} is disabled")).to_be_visible()
    seen.open(f"/console/audit?subject={name}")
    expect(page.get_by_role("cell", name="disabled a person")).to_be_visible()
    with page.expect_download() as download:
        press(page.get_by_role("link", name="Download these entries"), is_touched)
    download.value.save_as(tmp_path / "log.csv")
    assert "disabled a person" in (tmp_path / "log.csv").read_text()
    assert seen.check() == []


def test_clerk_enters_a_name_and_moves_an_account(window: Callable[..., Visit]) -> None:
    seen = window(Role.CLERK, width=360)
    seen.open("/console/bills/3")
    page = seen.page
    page.get_by_role("link", name="People and moves of the account").click()
    people = page.get_by_role("region", name="Other people, or another name or address")
    people.get_by_label("From this local day on").fill("2026-10-01")
    people.get_by_label("Name").fill("Anna Müller")
    people.get_by_label("Country, two letters").fill("DE")
    people.get_by_role("button", name="Show what changes").click()
    page.get_by_text("name: - → Anna Müller").wait_for()
    assert not (faults := seen.check()), faults
    page.get_by_role("button", name="Do it").click()
    page.get_by_text("It is done.").wait_for()
    move = page.get_by_role("region", name="Move", exact=True)
    move.get_by_label("From this local day on").fill("2026-10-31 14:15")
    move.get_by_label("Mail address").fill("nonsense")
    move.get_by_role("button", name="Show what changes").click()
    page.get_by_text("Is no mail address").wait_for()
    seen.faults.clear()  # Chromium reports the answer 422.
    assert not (faults := seen.check()), faults
    move.get_by_label("Name").fill("Bert Beispiel")
    move.get_by_label("Mail address").fill("")
    move.get_by_role("button", name="Show what changes").click()
    page.get_by_text("The home's meters at the move").wait_for()
    assert not (faults := seen.check()), faults
    page.get_by_role("button", name="Do it").click()
    page.get_by_text("It is done.").wait_for()
    assert "31 Oct 2026" in page.get_by_role("table", name="Meters").inner_text()
    seen.open("/console/accounts")
    page.get_by_label("Name or address").fill("bert")
    page.get_by_role("button", name="Find").click()
    page.get_by_text("Bert Beispiel").wait_for()
    assert not (faults := seen.check()), faults


RELEASE = "aa11"


@pytest.fixture(scope="module")
def released(application: FastAPI) -> Path:
    """An open release of made rows, written as each release is."""
    asked = AskedRelease(tier=Tier.OPEN, start=NOW - 172_800, end=NOW - 86_400)
    attack = {"attack": "group by bills", "attacker": "has all bills", "success": 0.02, "by_guessing": 0.018}
    kept = store.KeptRelease(
        id=RELEASE, tier=Tier.OPEN, since=asked.start // 900, until=asked.end // 900, options=asked.options,
        attacks=[attack], groups={}, state="released", asked=NOW, asked_by="anna",
    )  # fmt: skip
    facts = ReleaseFacts(
        id=RELEASE, town="Centertown", asked=asked, version="0.3.0", homes=20, left_out=0, known_percent=100, attacks=[]
    )
    database: Database = application.state.gate.database
    with database.writes.begin() as connection:
        store.save_release(connection, kept)
    folder: Path = application.state.console.api.settings.research.releases / RELEASE
    folder.mkdir(parents=True)
    rows = made_rows(Tier.OPEN)
    values = [np.array([[1000 * int(row[place]) for row in rows]]) for place in (2, 3)]
    times = np.array([parse_time(row[1], "start") for row in rows])
    block = EnergyBlock(
        names=["house-01"], times=times, values=values, shown=[np.ones_like(one, bool) for one in values]
    )
    files = [
        DataFile(stem="groups", columns=name_columns(Tier.OPEN), rows=[("house-01", "house", 20)]),
        DataFile(stem="sums", columns=data_columns(Tier.OPEN), blocks=lambda: [block]),
    ]
    write_release(folder, facts, files)
    return folder


@pytest.mark.parametrize("is_touched", [False, True], ids=["keys", "touch"])
def test_researcher_finds_a_release_reads_its_dictionary_and_downloads_it(
    window: Callable[..., Visit], released: Path, tmp_path: Path, *, is_touched: bool
) -> None:
    seen = window(Role.RESEARCHER, width=390 if is_touched else 1280, touch=is_touched)
    page = seen.page

    seen.open("/console/research")
    assert seen.check() == []
    press(page.get_by_role("link", name="homes", exact=True), is_touched)
    expect(page.get_by_text("Made up, of no home")).to_be_visible()
    expect(page.get_by_role("heading", name="How to get it")).to_be_visible()
    expect(page.locator(".plot canvas").first).to_be_visible()
    assert seen.check() == []
    press(page.get_by_role("link", name="All releases"), is_touched)
    press(page.get_by_role("link", name=RELEASE), is_touched)
    expect(page.get_by_role("rowheader", name="used_wh")).to_be_visible()
    expect(page.get_by_text("succeeds in 2.0% of its trials")).to_be_visible()
    expect(page.locator(".plot canvas").first).to_be_visible()
    assert seen.check() == []
    with page.expect_download() as download:
        press(page.get_by_role("button", name="Download sums.csv"), is_touched)
    download.value.save_as(tmp_path / "sums.csv")
    content = (tmp_path / "sums.csv").read_bytes()
    assert content == (released / "sums.csv").read_bytes()
    expect(page.get_by_text(hashlib.sha256(content).hexdigest())).to_be_visible()
    assert download.value.suggested_filename == f"{RELEASE}-sums.csv"


def test_release_fits_a_phone_by_night(window: Callable[..., Visit], released: Path) -> None:
    del released
    seen = window(Role.RESEARCHER, width=360, dark=True)
    for path in ("", "/kinds/open", "/kinds/homes", f"/{RELEASE}"):
        seen.open(f"/console/research{path}")
        assert seen.check() == []


@pytest.mark.parametrize("is_touched", [False, True], ids=["keys", "touch"])
def test_resident_goes_back_to_a_month_and_takes_its_data(
    window: Callable[..., Visit], tmp_path: Path, *, is_touched: bool
) -> None:
    seen = window(Role.RESIDENT, account=1, width=390 if is_touched else 1280, touch=is_touched)
    page = seen.page

    seen.open("/console/home")
    press(page.get_by_role("link", name="Month", exact=True), is_touched)
    expect(page.get_by_text("November 2026: kilowatt-hours by day")).to_be_visible()
    press(page.get_by_role("link", name="The month before"), is_touched)
    expect(page.get_by_text("October 2026: kilowatt-hours by day")).to_be_visible()
    assert page.url.endswith("/console/home"), "the plot changes, the page stays"
    # The town's readings are not stored in this fixture: what is settled of the month is plotted.
    expect(page.locator("#course canvas").first).to_be_visible()
    assert seen.check() == []
    press(page.get_by_role("link", name="Settings"), is_touched)
    with page.expect_download() as download:
        press(page.get_by_role("button", name="Download"), is_touched)
    download.value.save_as(tmp_path / "energy.xml")
    assert "Green Button usage of account 1" in (tmp_path / "energy.xml").read_text()
    assert seen.faults == []


def test_console_can_be_installed_as_an_app(window: Callable[..., Visit]) -> None:
    seen = window(Role.RESIDENT, account=1, width=390, touch=True)
    seen.open("/console/home")
    session = seen.page.context.new_cdp_session(seen.page)
    found = session.send("Page.getInstallabilityErrors")["installabilityErrors"]
    # Windows of tests are private ones.
    assert [each["errorId"] for each in found] == ["in-incognito"]
    assert session.send("Page.getAppManifest")["errors"] == []


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
    # One more for the account that moves in a test below, if it ran before.
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
    expect(page.locator("#effect")).to_contain_text("import 2: must be an amount")
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
        (entry,) = audit_log.entries(connection, audit_log.AuditFilter(person="anna", subject="dead letter"), 1)
    assert "welder" in str(entry["after"])
