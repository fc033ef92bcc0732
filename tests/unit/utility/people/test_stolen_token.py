"""A stolen token, session or password of an administrator makes no login that outlives it."""

import re
from collections.abc import Callable

import pytest
from fastapi import FastAPI

from commonwatt.model.calendar import iso
from harness.console import Browser, shown, standing_api, text_of, wrong
from harness.furnished import token_of
from tests.unit.utility.conftest import NOW
from tests.unit.utility.people.test_users import actions
from utility.access.people import Role
from utility.alarms.store import silences
from utility.assembly.application import make_app
from utility.control.store import find_change
from utility.database.database import Database
from utility.settings import UtilitySettings

Browsers = Callable[..., Browser]

CHANGES: dict[str, dict[str, object]] = {
    "/console/users": {"name": "puppet", "roles": ["admin"]},
    "/console/residents": {"residents": "account,name\n1,puppet\n"},
    "/console/users/eve/link": {},
    "/console/users/eve/roles": {"roles": ["admin"]},
    "/console/users/eve/second-factor/remove": {},
    "/console/users/eve/enable": {},
}
"""Every form that makes or changes another person's login, with the attacker's values."""


@pytest.fixture(autouse=True)
def eve(browser: Browsers) -> Browser:
    return browser(Role.VIEWER, name="eve")


LATER = "2027-01-16T02:00-05:00"
Post = Callable[..., int]


@pytest.fixture
def with_token(app: FastAPI, database: Database) -> Callable[[str, str], Post]:
    """Return what a program sends with a token of a scope: ``with_token("admin", "ann")("/tokens/1/revoke")``."""

    def make(scope: str, name: str) -> Post:
        headers = token_of(database, name, scope, NOW)

        def post(path: str, form: dict[str, object] | None = None, **content: object) -> int:
            body: dict[str, object] = {"json": content} if content else {"data": form or {}}
            return Browser(app).send("POST", path, headers=headers, **body).status_code

        return post

    return make


@pytest.mark.parametrize("path", CHANGES)
def test_token_makes_and_changes_no_login(
    with_token: Callable[[str, str], Post], browser: Browsers, database: Database, path: str
) -> None:
    browser(Role.ADMIN, name="ann")
    post = with_token("admin", "ann")
    assert post(path, CHANGES[path] | {"current": "three slow green boats"}) == 403
    assert actions(database) == []


@pytest.mark.parametrize("path", CHANGES)
def test_session_alone_makes_and_changes_no_login(browser: Browsers, database: Database, path: str) -> None:
    ann = browser(Role.ADMIN, name="ann")
    for current in ("", "a guess of this password"):
        answer = ann.post(path, CHANGES[path] | {"current": current})
        assert answer.status_code == 422, text_of(answer)
    assert actions(database) == []


def secret_of(person: Browser) -> str:
    """Set up the second factor of a person; return the secret."""
    page = person.post("/console/account/second-factor/offer")
    found = re.search(r'name="secret" value="(\w+)"', page.text)
    assert found is not None, text_of(page)
    done = person.post("/console/account/second-factor/confirm", {"secret": found[1], "code": shown(found[1], NOW)})
    assert done.status_code == 200
    return found[1]


@pytest.mark.parametrize("path", CHANGES)
def test_password_without_the_code_makes_and_changes_no_login(browser: Browsers, database: Database, path: str) -> None:
    secret_ = secret_of(browser(Role.ADMIN, name="ann"))
    ann = browser(Role.ADMIN, name="ann")
    before = actions(database)
    for code in ("", wrong(secret_, NOW)):
        assert ann.post(path, CHANGES[path] | {"code": code}).status_code == 422
    assert ann.post(path, CHANGES[path] | {"code": shown(secret_, NOW)}).status_code == 422, "it was used to set up"
    assert actions(database) == before


def test_administrator_without_a_second_factor_sets_it_up_first_where_one_is_required(database: Database) -> None:
    strict = make_app(standing_api(database, NOW, settings=UtilitySettings()))
    ann = Browser(strict, Role.ADMIN, name="ann")
    assert "Inviting needs a second factor of your own login" in text_of(ann.get("/console/users"))
    for path, fields in CHANGES.items():
        answer = ann.post(path, fields)
        assert (answer.status_code, "set yours up" in text_of(answer)) == (403, True), path


def test_token_of_less_scope_revokes_none_of_more(with_token: Callable[[str, str], Post], browser: Browsers) -> None:
    browser(Role.ADMIN, Role.CLERK, name="ann")
    whole, admin = with_token("admin,clerk", "ann"), with_token("admin", "ann")
    for path in ("/tokens/1/revoke", "/console/tokens/1/revoke"):
        assert admin(path) == 422, "it has the role clerk besides"
    assert whole("/tokens/2/revoke") == 200
    assert admin("/tokens/1/revoke") == 401
    assert whole("/tokens/1/revoke") == 200, "its own"


@pytest.mark.parametrize("also", [False, True])
def test_what_a_token_made_is_listed_with_it_and_ends_with_it_if_the_administrator_says_so(
    with_token: Callable[[str, str], Post], browser: Browsers, database: Database, also: bool
) -> None:
    bob, ann = browser(Role.OPERATOR, name="bob"), browser(Role.ADMIN, name="ann")
    post, until = with_token("operator", "bob"), NOW + 3600
    assert post("/alarms/maintenances", place="r001", part="", start=iso(NOW), until=iso(until), note="thief") == 200
    later = {
        "action": "schedule",
        "fields": {"periods": {"relay_s": 900}},
        "microgrids": ["r001"],
        "at": LATER,
        "seen": 0,
    }
    assert post("/commands", **later) == 200
    words = text_of(bob.get("/console/tokens/1"))
    assert [what in words for what in ("silenced alarms", "planned a change of gateways")] == [True] * 2
    assert browser(Role.OPERATOR, name="ida").get("/console/tokens/1").status_code == 404
    done = ann.post("/console/tokens/1/revoke", {"made": "true"} if also else {})
    assert done.status_code == 303
    with database.reads.begin() as connection:
        change = find_change(connection, 1)
        held = len(silences(connection, NOW)), change.state
    assert held == ((0, "cancelled") if also else (1, "planned"))


def test_what_a_token_made_ends_also_after_it_revoked_itself_and_however_much_it_did_since(
    with_token: Callable[[str, str], Post], browser: Browsers, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("utility.access.store.audit_log.AT_ONCE", 1)
    ann = browser(Role.ADMIN, name="ann")
    browser(Role.OPERATOR, name="bob")
    post = with_token("operator", "bob")
    fields = {"periods": {"relay_s": 900}}
    assert post("/commands", action="schedule", fields=fields, microgrids=["r001"], at=LATER, seen=0) == 200
    assert post("/alarms/maintenances", place="r001", part="", start=iso(NOW), until=iso(NOW + 60), note="x") == 200
    assert post("/tokens/1/revoke") == 200
    assert "End what it made" in text_of(ann.get("/console/tokens/1"))
    assert ann.post("/console/tokens/1/revoke", {"made": "true"}).status_code == 303
    with database.reads.begin() as connection:
        change = find_change(connection, 1)
        assert (len(silences(connection, NOW)), change.state) == (0, "cancelled")
    assert ann.post("/console/tokens/1/revoke").status_code == 422, "it is revoked"
