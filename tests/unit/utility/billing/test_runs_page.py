"""Runs of bills in the browser: made beside the service, checked, issued by a second person, explained, on paper."""

import json
import re
from collections.abc import Callable

import pytest

from harness.billing.worlds import KWH, World, found_in_store, late, published, tariff, world_of
from harness.console import Browser, standing_api, text_of
from tests.unit.utility.conftest import NOW
from tests.unit.utility.tariffs.test_pages import result_of
from utility.access.people import Role
from utility.access.store import audit_log
from utility.assembly.application import make_app
from utility.billing.store.runs import stored_bills
from utility.billing.tables import bill
from utility.database.database import Database, save_setting
from utility.database.town_zone import TOWN
from utility.energy.quarters import Quantity
from utility.tariffs.tables import rates_version

Browsers = Callable[..., Browser]


@pytest.fixture(name="world", autouse=True)
def _world(monkeypatch: pytest.MonkeyPatch, database: Database) -> World:
    published(database, tariff(), NOW)
    return found_in_store(monkeypatch, world_of())


def made(clerk: Browser, month: str) -> str:
    """Make and check a run; return its page's address."""
    begun = clerk.post("/console/runs", {"month": month})
    path = result_of(clerk, begun.headers["location"])
    result_of(clerk, clerk.post(f"{path}/check").headers["location"])
    return path


def test_run_is_made_checked_and_issued_by_two_people(browser: Browsers, database: Database, world: World) -> None:
    anna = browser(Role.CLERK, Role.APPROVER, name="anna")
    ben = browser(Role.APPROVER, name="ben")
    path = made(anna, "2026-10")
    assert "You checked it: another person has to issue it" in text_of(anna.get(path))
    own = anna.post(f"{path}/issue")
    assert (own.status_code, "anna checked it; a second person" in text_of(own)) == (409, True)
    assert ben.post(f"{path}/check").status_code == 403
    assert ben.post(f"{path}/issue").status_code == 303
    again = ben.post(f"{path}/issue")
    assert (again.status_code, "only a checked run is issued" in text_of(again)) == (409, True)
    assert 'max="2027-01" required value="2026-11"' in anna.get("/console/runs").text, "the likely next"
    account = late(world, Quantity.IMPORTED, 100 * KWH)
    november = made(anna, "2026-11")
    page = text_of(anna.get(november))
    assert "Beside run 1, 2026-10 (issued)" in page
    assert "What stands out" in page
    assert "accounts pay more than in 2026-10" in page
    assert "Bills by amount, dollars" in page
    assert re.search(r"more than in October 2026: .*corrections of earlier months \+\$", page), "the sum's reason"
    listed = anna.get(november).text
    assert f'<a href="/console/bills/{account}">Open</a>' in listed, "what stands out leads to the account's months"
    assert "only the newest month's run can be cancelled" in text_of(ben.get(november)).replace("&#39;", "'")
    assert "2026-11" in text_of(anna.get("/console/runs"))
    issue = text_of(ben.get(november))
    assert "anna checked it; you, ben, issue it" in issue
    assert "have 30 days to pay" in issue
    rises = anna.get(f"{november}/bills?order=more").text
    assert f"/console/bills/{account}/2" in rises
    with database.reads.begin() as connection:
        entries = audit_log.entries(connection, audit_log.AuditFilter(action="run."), 9)[::-1]
    assert [(e["person"], e["action"], e["subject"]) for e in entries[:3]] == [
        ("anna", "run.make", "run 1"),
        ("anna", "run.check", "run 1"),
        ("ben", "run.issue", "run 1"),
    ]


def test_a_draft_of_some_days_says_so_and_is_beside_as_many_days_of_the_month_before(
    browser: Browsers, world: World
) -> None:
    anna, ben = browser(Role.CLERK, name="anna"), browser(Role.APPROVER, name="ben")
    ben.post(f"{made(anna, '2026-10')}/issue")
    end = world.inputs.day_ends[19] + 1 - world.settled.first
    world.settled.version[:, end:] = 0
    world.settled.provisional[:, end:] = True
    for energies in world.settled.energies.values():
        energies[:, end:] = 0
    path = result_of(anna, anna.post("/console/runs", {"month": "2026-11"}).headers["location"])
    page = text_of(anna.get(path))
    assert "Sum so far, of 20 of 30 days" in page
    assert "20 of 30 days are settled" in page
    assert "can't be issued" in page
    for finished in ("done", "Check: compute again", "rose most", "accounts pay more", "Beside run"):
        assert finished not in page
    assert re.search(r"(less|more) than in the first 20 days of October 2026|As much as in the first 20 days", page)
    change = re.search(r"\$(\S+) (?:less|more) than", page)
    assert change is None or float(change[1]) < 20, "the same use, but for weekends, and not eleven days less"
    assert "20 of 30 days" in text_of(anna.get("/console/runs"))
    account = re.search(r"/console/bills/(\d+)/2", anna.get(path).text)
    assert account
    assert "less than in October" not in text_of(anna.get(account[0]))


def test_first_page_shows_the_month_in_work_but_no_altered_bills(browser: Browsers, database: Database) -> None:
    path = made(browser(Role.CLERK, name="anna"), "2026-10")
    browser(Role.APPROVER, name="ben").post(f"{path}/issue")
    in_november = make_app(standing_api(database, 1_794_330_000))
    clerk = Browser(in_november, Role.CLERK, name="clara")
    words = text_of(clerk.get("/console/runs"))
    assert "anna, 15 Jan 2027" in words
    assert "Half of the bills are above" in words
    with database.writes.begin() as connection:
        connection.execute(bill.update().values(cents=bill.c.cents + 1000))
    words = text_of(clerk.get("/console/runs"))
    assert "issued run 1 of 2026-10" in words
    assert "Half of the bills are above" not in words


def test_without_prices_or_readings_there_are_no_steps(browser: Browsers, database: Database) -> None:
    clerk = browser(Role.CLERK)
    assert "none of 2026-12" in text_of(clerk.get("/console/runs"))
    with database.writes.begin() as connection:
        connection.execute(rates_version.delete())
        save_setting(connection, TOWN, json.dumps({"currency": "EUR"}))
    words = text_of(clerk.get("/console/runs"))
    assert "No prices yet, so no bills. A clerk proposes prices under Rates" in words
    assert "Data final" not in words
    assert '<label for="amount">EUR</label>' in clerk.get("/console/entries").text


def test_wrong_or_repeated_run_is_told(browser: Browsers, database: Database) -> None:
    clerk = browser(Role.CLERK)
    assert "is no month" in text_of(clerk.post("/console/runs", {"month": "october"}))
    first = result_of(clerk, clerk.post("/console/runs", {"month": "2026-10"}).headers["location"])
    assert result_of(clerk, clerk.post("/console/runs", {"month": "2026-10"}).headers["location"]) == first
    with database.reads.begin() as connection:
        assert len(audit_log.entries(connection, audit_log.AuditFilter(action="run."), 9)) == 1, (
            "no second run was made"
        )
    failed = clerk.get(clerk.post("/console/runs/7/check").headers["location"] + "/live")
    for _ in range(1000):
        if "alert" in failed.text:
            break
        failed = clerk.get(failed.url.path)
    assert "there is no run of bills with this number" in text_of(failed)
    unknown = clerk.get("/console/works/0")
    assert (unknown.status_code, "start it again" in text_of(unknown)) == (404, True)


def test_bill_is_found_explained_to_its_quarter_hours_and_printed(browser: Browsers, database: Database) -> None:
    clerk = browser(Role.CLERK)
    made(clerk, "2026-10")
    with database.reads.begin() as connection:
        account = next(iter(stored_bills(connection, 1)))
    assert clerk.get(f"/console/bills?text={account}").headers["location"] == f"/console/bills/{account}"
    assert "2026-10" in text_of(clerk.get(f"/console/bills/{account}"))
    ben = browser(Role.RESIDENT, name="ben", account=account)
    assert ben.get("/console/bills?text=ben").status_code == 403
    assert "No account has this number, place or name" in text_of(clerk.get("/console/bills?text=nobody"))
    place = f"/console/bills/{account}/1"
    page = text_of(clerk.get(place))
    assert "To pay" in page
    assert "2026-10-31" in page
    assert "2026-10-31 01:00 -0400" in text_of(clerk.get(f"{place}?day=2026-10-31"))
    assert "2026-10-31 17:45 -0400" in text_of(clerk.get(f"{place}?day=2026-10-31&hour=17"))
    assert clerk.get(f"{place}/bill.pdf").content.startswith(b"%PDF")
    assert "attachment" in clerk.get(f"{place}/bill.pdf").headers["content-disposition"]
    assert clerk.get(f"{place}/receipt.json").json()["leaf"]["account"] == account
    assert clerk.get(f"{place}/plot.json").json()["series"][0]["unit"] == "kWh"
    assert clerk.get("/console/bills/9999/1").status_code == 404
    assert clerk.get(f"/console/bills/{account}/7").status_code == 404
    for role in (Role.VIEWER, Role.OPERATOR, Role.RESIDENT):
        assert browser(role, account=1).get(place).status_code == 403, "a household's bill is not for everybody"


def test_a_cancelled_run_is_marked_and_its_month_is_made_again(browser: Browsers, database: Database) -> None:
    anna, ben = browser(Role.CLERK, name="anna"), browser(Role.APPROVER, name="ben")
    path = made(anna, "2026-10")
    ben.post(f"{path}/issue")
    number = path.rsplit("/", 1)[1]
    assert f"/console/entries?run={number}" in anna.get(path).text
    assert f"Ask to cancel run {number}" in text_of(anna.get(f"/console/entries?run={number}"))
    anna.post("/console/entries", {"kind": "cancel", "subject": number, "reason": "a wrong price"})
    assert "a wrong price" in text_of(ben.get("/console/entries"))
    assert ben.post("/console/entries/1/approve").status_code == 303
    assert "Its bills stay as they are, marked" in text_of(anna.get(path))
    assert "cancelled" in text_of(anna.get("/console/runs"))
    with database.reads.begin() as connection:
        account = min(stored_bills(connection, int(number)))
    assert "cancelled" in text_of(anna.get(f"/console/bills/{account}"))
    assert "Cancelled bill, October 2026" in text_of(anna.get(f"/console/bills/{account}/{number}"))
    again = made(anna, "2026-10")
    assert ben.post(f"{again}/issue").status_code == 303
    assert "Replaces" in text_of(anna.get(f"/console/bills/{account}/{again.rsplit('/', 1)[1]}"))
