"""The administrator's main jobs in a real browser, by keys and by touch: invite and disable a person, read the log."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from harness.browser import Visit, by_keyboard, press
from harness.console import PASSWORD
from utility.access.roles import Role


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
    assert (page.get_by_role("img", name="QR code of the link").bounding_box() or {"width": 0})["width"] > 200
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
