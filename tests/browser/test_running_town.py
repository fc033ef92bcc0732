"""In a running town: an administrator invites operators, who tune a gateway and see its answer, each in a browser.

Every step is done with the keyboard.
"""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from harness.browser import Visit, by_keyboard, visit
from harness.console import PASSWORD
from harness.real.site import Site

TOWN = 'microgrid = [{id = "r", kind = "residential", count = 1, houses = 2}]\n'


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("running") / "site", TOWN) as made:
        made.start("head-end", "utility", "r001 broker", "r001 gateway", "meters")
        yield made


def window(chrome: Browser, site: Site) -> Visit:
    return visit(chrome, f"http://{site.layout.part('utility').http}", None)


def accept(page: Page, link: str) -> None:
    """Open an invitation's link, and choose a password."""
    page.goto(link)
    by_keyboard(page.get_by_label("Password"), PASSWORD)
    page.keyboard.press("Enter")
    page.get_by_role("navigation", name="Pages").get_by_role("button", name="Log out").wait_for()


def invite(admin: Page, address: str, name: str, role: str) -> str:
    """Invite a person; return the link that the page shows."""
    admin.goto(f"{address}/console/users")
    by_keyboard(admin.get_by_label("Name at login"), name)
    by_keyboard(admin.locator(f"section[aria-labelledby=invite] input[value={role}]"), key="Space")
    by_keyboard(admin.get_by_label("Present password"), PASSWORD)
    by_keyboard(admin.get_by_role("button", name="Make the invitation"))
    return admin.get_by_label("The link", exact=True).input_value()


@pytest.fixture(scope="module")
def operators(chrome: Browser, site: Site) -> tuple[Visit, Visit]:
    """The first administrator opens the link in the service's log, and invites Anna and Ben."""
    admin = window(chrome, site)
    accept(admin.page, site.first_login())
    anna, ben = window(chrome, site), window(chrome, site)
    for operator, name in ((anna, "anna"), (ben, "ben")):
        accept(operator.page, invite(admin.page, admin.address, name, "operator"))
    return anna, ben


def test_operator_tunes_a_gateway_which_answers_and_the_second_one_is_told(operators: tuple[Visit, Visit]) -> None:
    anna, ben = operators
    for operator in operators:
        operator.page.goto(f"{operator.address}/console/schedules")
        by_keyboard(operator.page.get_by_text("All microgrids"))
        by_keyboard(operator.page.get_by_role("checkbox", name="r001"), key="Space")
        by_keyboard(operator.page.get_by_role("button", name="Make a change"))
        by_keyboard(operator.page.locator("#relay_s"), "900")
        expect(operator.page.locator("#preview")).to_contain_text("1 microgrid")
    by_keyboard(anna.page.get_by_role("button", name="Apply"))
    # Before, change and outcome stand on one page, which asks until the gateway has answered.
    answered = anna.page.get_by_role("row", name="r001")
    expect(answered).to_contain_text("done")
    assert anna.check() == []
    by_keyboard(ben.page.get_by_role("button", name="Apply"))
    expect(ben.page.get_by_role("alert")).to_contain_text("anna")
    by_keyboard(anna.page.get_by_role("button", name="Put back what was before"))
    expect(answered).to_contain_text("done")
    expect(anna.page.get_by_role("heading", level=1)).to_contain_text("put back")


def test_operator_finds_why_a_battery_does_not_share(operators: tuple[Visit, Visit]) -> None:
    anna, _ = operators
    anna.page.goto(f"{anna.address}/console/town")
    by_keyboard(anna.page.get_by_role("link", name="r001").first)
    by_keyboard(anna.page.get_by_text("Each battery, and why"))
    battery = anna.page.get_by_role("row", name="house 1").first
    with anna.page.expect_response(lambda answer: answer.url.endswith("/live")):
        pass  # What is open stays open when its part of the page comes anew.
    expect(battery).to_contain_text(re.compile("minimum|share|helps|needs|level"))
    assert anna.check() == []
