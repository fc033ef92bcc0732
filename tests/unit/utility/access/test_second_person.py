"""One administrator is not two people: puppets, waits, removed factors, jobs; what is refused becomes an alarm."""

from collections.abc import Callable

import pytest
from fastapi import FastAPI

from harness.billing.worlds import found_in_store, tariff, world_of
from harness.console import Browser, standing_api, text_of
from tests.unit.utility.conftest import NOW
from tests.unit.utility.people.test_users import accept, link_in
from tests.unit.utility.tariffs.test_pages import result_of
from utility.access.people import Role
from utility.access.store import audit_log
from utility.access.store.access import first_invitation
from utility.alarms.store import counted
from utility.assembly.application import make_app
from utility.assembly.doctor import judge
from utility.billing.store.run_bills import computed_run, prepared, saved
from utility.billing.store.runs import SERVICE, run_of
from utility.database.database import Database
from utility.settings import UtilitySettings
from utility.tariffs import store as tariffs

Browsers = Callable[..., Browser]
DAY = 86_400


@pytest.fixture(autouse=True)
def _run(monkeypatch: pytest.MonkeyPatch, database: Database) -> None:
    """A published tariff, and a run that the job made."""
    found_in_store(monkeypatch, world_of())
    with database.writes.begin() as connection:
        stored = tariffs.propose(connection, tariff(), "", "old", NOW)
        tariffs.publish(connection, stored.name, stored.version, "older", NOW)
    saved(database, computed_run(database, prepared(database, "2026-10", "town", NOW)), SERVICE, NOW)


@pytest.fixture
def at(database: Database) -> Callable[[float], FastAPI]:
    """Return the application some days later: ``at(8)``."""
    return lambda days: make_app(standing_api(database, NOW + int(days * DAY)))


def check(clerk: Browser) -> None:
    result_of(clerk, clerk.post("/console/runs/1/check").headers["location"])


def issue(person: Browser) -> tuple[int, str]:
    answer = person.post("/console/runs/1/issue")
    return answer.status_code, text_of(answer)


def invite(admin: Browser, visitor: Browser, name: str, *roles: str) -> None:
    asked = {"name": name, "roles": list(roles), "sure_both": "true"}
    assert accept(visitor, link_in(admin.post("/console/users", asked).text)) == 303


def test_puppet_of_an_administrator_is_never_the_second_person_of_it(
    browser: Browsers, at: Callable[[float], FastAPI], database: Database
) -> None:
    ann = browser(Role.ADMIN, Role.CLERK, Role.APPROVER, name="ann")
    invite(ann, browser(), "puppet", "approver", "clerk")
    check(ann)
    for days in (0, 8, 400):
        puppet = Browser(at(days), Role.APPROVER, name="puppet")
        status, words = issue(puppet)
        assert (status, "one of ann and puppet made the link" in words) == (409, True), words
        assert "one of ann and puppet made" in text_of(puppet.get("/console/runs/1"))
        assert "Issue 2" not in text_of(puppet.get("/console/runs/1"))
    with database.reads.begin() as connection:
        assert run_of(connection, 1)["state"] == "checked"


def test_administrator_does_not_issue_what_its_puppet_checked(browser: Browsers) -> None:
    ann = browser(Role.ADMIN, Role.APPROVER, name="ann")
    invite(ann, browser(), "puppet", "clerk")
    check(browser(Role.CLERK, name="puppet"))
    assert issue(ann)[0] == 409


def test_invited_person_waits_seven_days_and_pages_status_and_refusal_say_until_when(
    browser: Browsers, at: Callable[[float], FastAPI]
) -> None:
    anna, admin = browser(Role.CLERK, name="anna"), browser(Role.ADMIN, name="root")
    check(anna)
    invite(admin, browser(), "ben", "approver")
    free, there = "ben from 2027-01-22 09:23:20Z", "ben from 22 Jan 2027 04:23:20"  # on pages in the town's time
    ben = browser(Role.APPROVER, name="ben")
    status, words = issue(ben)
    assert (status, there in words, "root changed link, roles" in words) == (409, True, True), words
    assert f"These people may issue it: {there}" in text_of(anna.get("/console/runs/1"))
    answer = anna.get("/status").json()
    (finding,) = [one for one in judge(answer) if one.check == "second_person"]
    assert free in finding.found
    assert issue(Browser(at(6.99), Role.APPROVER, name="ben"))[0] == 409
    late = Browser(at(7), Role.APPROVER, name="ben")
    assert [one for one in judge(late.get("/status").json()) if one.check == "second_person"] == []
    assert issue(late)[0] == 303


@pytest.mark.parametrize("change", ["link", "roles", "second-factor/remove"])
def test_each_change_by_another_person_starts_the_wait_and_an_own_one_does_not(
    browser: Browsers, database: Database, change: str
) -> None:
    check(browser(Role.CLERK, name="anna"))
    ben = browser(Role.APPROVER, name="ben")
    admin = browser(Role.ADMIN, name="root")
    with database.writes.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO second_factor (person, secret, since, last_step, guesses_until) VALUES ('ben', 'A', 1, 0, 0)"
        )
    done = admin.post(f"/console/users/ben/{change}", {"roles": ["approver"]} if change == "roles" else {})
    assert done.status_code in (200, 303)
    with database.writes.begin() as connection:
        connection.exec_driver_sql("UPDATE person SET state = 'active' WHERE name = 'ben'")
    assert issue(browser(Role.APPROVER, name="ben"))[0] == 409
    del ben
    own = browser(Role.ADMIN, Role.APPROVER, name="ida")
    assert own.post("/console/users/ida/roles", {"roles": ["admin", "approver"]}).status_code == 303
    assert issue(own)[0] == 303


def test_first_administrator_waits_too(browser: Browsers, database: Database, at: Callable[[float], FastAPI]) -> None:
    check(browser(Role.CLERK, name="anna"))
    accept(browser(), f"/console/invitation/{first_invitation(database, NOW)}")
    browser(Role.ADMIN, name="admin").post("/console/users/admin/roles", {"roles": ["admin", "approver"]})
    assert issue(browser(Role.APPROVER, name="admin"))[0] == 409
    assert issue(Browser(at(7), Role.APPROVER, name="admin"))[0] == 303


def test_maker_of_a_run_does_not_issue_it_though_another_person_checked_it(
    browser: Browsers, database: Database
) -> None:
    with database.writes.begin() as connection:
        connection.exec_driver_sql("UPDATE bill_run SET made_by = 'mia'")
    mia = browser(Role.CLERK, Role.APPROVER, name="mia")
    check(browser(Role.CLERK, name="anna"))
    status, words = issue(mia)
    assert (status, "mia made it" in words) == (409, True), words
    assert issue(browser(Role.APPROVER, name="ben"))[0] == 303


def test_what_a_command_checked_is_checked_again_by_a_person(browser: Browsers, database: Database) -> None:
    with database.writes.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE bill_run SET state = 'checked', checked_by = 'root@this-machine', checked = 1"
        )
    ben = browser(Role.APPROVER, name="ben")
    status, words = issue(ben)
    assert (status, "root@this-machine checked it, and is no person" in words) == (409, True), words
    check(browser(Role.CLERK, name="anna"))
    assert issue(ben)[0] == 303


def test_refused_attempt_is_an_alarm_until_an_administrator_has_seen_it(browser: Browsers, database: Database) -> None:
    anna = browser(Role.CLERK, Role.APPROVER, name="anna")
    check(anna)
    for _ in range(3):
        issue(anna)
    with database.reads.begin() as connection:
        assert counted(connection, NOW).refused == ("anna: run 1",)
        entries = audit_log.entries(connection, audit_log.AuditFilter(action="second."), 9)
    assert [(one["person"], one["subject"]) for one in entries] == [("anna", "run 1")], "once, however often"
    root = browser(Role.ADMIN, name="root")
    assert "anna: run 1" in text_of(root.get("/console/audit"))
    assert anna.post("/console/audit/seen", {"last": entries[0]["no"]}).status_code == 403
    assert root.post("/console/audit/seen", {"last": 2**61}).status_code == 303
    with database.reads.begin() as connection:
        assert counted(connection, NOW).refused == ()
    issue(anna)
    with database.reads.begin() as connection:
        assert counted(connection, NOW).refused == ("anna: run 1",), "a number ahead hides nothing that comes"


def test_approver_needs_a_second_factor_unless_the_settings_say_otherwise(database: Database) -> None:
    strict = make_app(standing_api(database, NOW, settings=UtilitySettings()))
    assert "a second factor is required" in text_of(Browser(strict, Role.APPROVER).post("/runs/1/issue"))
    assert Browser(strict, Role.CLERK).get("/status").status_code == 200
