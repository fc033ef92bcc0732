"""The resident's main job in a real browser, by keys and by touch: today, the plot back to October, a file."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from harness.browser import Visit, press
from utility.access.roles import Role


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
