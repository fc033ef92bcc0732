"""A new clerk's first move: from the pages alone, on a phone, with a preview before anything is done."""

from collections.abc import Callable

from harness.browser import Visit
from utility.access.roles import Role


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
