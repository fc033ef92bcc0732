"""The own password, sessions and tokens: a token never has more than its person, and ends."""

import re
from collections.abc import Callable
from threading import Semaphore
from typing import Any

import pytest
from fastapi import FastAPI

from commonwatt.identity.guesses import BY_OWN_ADDRESS
from harness.console import PASSWORD, Browser, text_of
from utility.access.passwords import hash_password
from utility.access.roles import Role
from utility.access.store import access, audit_log
from utility.database.database import Database
from utility.webkit.rights import COOKIE, Gate

Browsers = Callable[..., Browser]

OTHER = "four quick red trains"


@pytest.fixture
def eve(browser: Browsers, database: Database) -> Browser:
    person = browser(Role.VIEWER, Role.CLERK, name="eve")
    with database.writes.begin() as connection:
        connection.exec_driver_sql("UPDATE person SET password = ? WHERE name = 'eve'", (hash_password(PASSWORD),))
    return person


def token_in(answer: Any) -> str:
    found = re.search(r"cwt_[\w-]+", answer.text)
    assert found is not None
    return found[0]


def asked(app: FastAPI, token: str, path: str, method: str = "GET", **options: Any) -> int:
    return Browser(app).send(method, path, headers={"Authorization": f"Bearer {token}"}, **options).status_code


def test_password_change_needs_the_present_one_and_ends_other_sessions(eve: Browser, browser: Browsers) -> None:
    second, old = browser(Role.VIEWER, name="eve"), dict(eve.cookies)
    wrong = eve.post("/console/account/password", {"current": OTHER, "new": OTHER})
    assert (wrong.status_code, "not your present password" in wrong.text) == (422, True)
    weak = eve.post("/console/account/password", {"current": PASSWORD, "new": "password12345"})
    assert (weak.status_code, "guessed first" in weak.text) == (422, True)
    assert second.get("/status").status_code == 200
    assert eve.post("/console/account/password", {"current": PASSWORD, "new": OTHER}).status_code == 303
    assert second.get("/status").status_code == 401
    assert eve.get("/status").status_code == 200, "this session goes on, under a new secret"
    assert dict(eve.cookies) != old
    assert browser().send("POST", "/console/login", data={"name": "eve", "password": OTHER}).status_code == 303


def test_a_session_does_not_serve_to_guess_the_password(eve: Browser) -> None:
    guesses = [eve.post("/console/account/password", {"current": f"wrong {n}", "new": OTHER}) for n in range(12)]
    assert [answer.status_code for answer in guesses] == [422] * 10 + [429] * 2


def test_an_own_password_that_is_not_checked_for_want_of_room_counts_as_no_wrong_one(
    eve: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {"current": PASSWORD, "new": OTHER}
    with monkeypatch.context() as many_log_in:
        many_log_in.setattr("utility.access.passwords._room", Semaphore(0))
        assert {eve.post("/console/account/password", fields).status_code for _ in range(12)} == {503}
    assert eve.post("/console/account/password", fields).status_code == 303


def ends_in(visitor: Browser) -> list[str]:
    """Return the addresses by which a person ends the other sessions, as the page has them."""
    return re.findall(r'formaction="([^"]+)"', visitor.get("/console/account").text)


@pytest.fixture
def changes(database: Database) -> Callable[[], list[tuple[str, ...]]]:
    """Return the ends of sessions in the audit log: person, whose session, before and after."""

    def read() -> list[tuple[str, ...]]:
        with database.reads.begin() as connection:
            rows = audit_log.entries(connection, audit_log.Wanted(action="session.end"), 20)
        return [tuple(str(row[name]) for name in ("person", "subject", "before", "after")) for row in rows]

    return read


def test_other_sessions_end_with_the_password_and_this_one_stays(
    eve: Browser, browser: Browsers, changes: Callable[[], list[tuple[str, ...]]]
) -> None:
    second = browser(Role.VIEWER, name="eve")
    assert text_of(eve.get("/console/account")).count("(this one)") == 1
    for fields in ({"current": ""}, {"current": OTHER}):
        assert eve.post("/console/account/sessions", fields).status_code == 422
    assert (second.get("/status").status_code, changes()) == (200, [])
    assert eve.post("/console/account/sessions", {"current": PASSWORD}).status_code == 303
    assert (eve.get("/status").status_code, second.get("/status").status_code) == (200, 401)
    assert changes() == [("eve", "eve", "None", '"all others"')]


def test_one_session_ends_with_the_password(
    eve: Browser, browser: Browsers, changes: Callable[[], list[tuple[str, ...]]]
) -> None:
    second = browser(Role.VIEWER, name="eve")
    (end,) = ends_in(eve)
    third = browser(Role.VIEWER, name="eve")
    assert eve.post(end, {"current": ""}).status_code == 422
    assert "not your present password" in eve.post(end, {"current": OTHER}).text
    assert (second.get("/status").status_code, changes()) == (200, [])
    assert eve.post(end, {"current": PASSWORD}).status_code == 303
    assert [one.get("/status").status_code for one in (eve, second, third)] == [200, 401, 200]
    ((by, whose, before, after),) = changes()
    assert (by, whose, '"browser": "harness"' in before, after) == ("eve", "eve", True, "None")
    assert "no such session" in eve.post(end, {"current": PASSWORD}).text
    for _ in range(BY_OWN_ADDRESS.at_once):
        assert eve.post(end, {"current": OTHER}).status_code == 422
    for path in (end, "/console/account/sessions", "/console/account/password"):
        answer = eve.post(path, {"current": PASSWORD, "new": OTHER})
        assert answer.status_code == 429, "one allowance for all forms that ask for the password"


def test_residents_end_their_own_sessions_and_nobody_elses(
    eve: Browser, browser: Browsers, database: Database, changes: Callable[[], list[tuple[str, ...]]]
) -> None:
    """The page names a session by something else than its digest, and another person's name of it ends nothing."""
    resident, phone = (browser(Role.RESIDENT, name="rose", account=1) for _ in range(2))
    with database.writes.begin() as connection:
        connection.exec_driver_sql("UPDATE person SET password = ? WHERE name = 'rose'", (hash_password(PASSWORD),))
        digests = connection.exec_driver_sql("SELECT digest FROM session").scalars().all()
    browser(Role.VIEWER, name="eve")
    page, (own,), (theirs,) = resident.get("/console/account").text, ends_in(resident), ends_in(eve)
    secrets = [*digests, str(resident.cookies.get(COOKIE)), str(phone.cookies.get(COOKIE))]
    assert [secret for secret in secrets if secret in page] == []
    guessed = [theirs, *(f"/console/account/sessions/{digest}/end" for digest in digests)]
    answers = [resident.post(path, {"current": PASSWORD}) for path in guessed]
    assert {(answer.status_code, "no such session" in answer.text) for answer in answers} == {(422, True)}
    assert (len(ends_in(eve)), phone.get("/console/account").status_code, changes()) == (1, 200, [])
    assert resident.post(own, {"current": PASSWORD}).status_code == 303
    assert phone.get("/console/account").headers["location"].startswith("/console/login")


def test_administrators_end_their_own_sessions_with_the_password_only(browser: Browsers) -> None:
    admin, second = browser(Role.ADMIN, name="ann"), browser(Role.ADMIN, name="ann")
    for path in ("/console/users/ann/sessions", "/people/ann/end-sessions"):
        answer = admin.post(path)
        assert (answer.status_code, "with your password" in answer.text) == (422, True), path
    assert second.get("/people").status_code == 200


def test_token_has_its_scope_until_it_ends_or_is_revoked(app: FastAPI, eve: Browser, database: Database) -> None:
    answer = eve.post("/console/tokens", {"label": "planning", "roles": ["viewer"], "days": 30})
    token = token_in(answer)
    assert token not in eve.get("/console/tokens").text, "shown once"
    assert asked(app, token, "/status") == 200
    assert asked(app, token, "/console/runs") in (200, 403)
    assert "never" not in text_of(eve.get("/console/tokens"))
    assert asked(app, token, "/tokens", "POST", json={"label": "x", "roles": ["viewer"], "days": 300}) == 422
    assert asked(app, token, "/console/account") == 403, "a token has no password and no sessions"
    with database.writes.begin() as connection:
        access.set_roles(connection, "eve", {Role.CLERK})
    assert asked(app, token, "/status") == 403, "a role that its person has lost does not count"
    with database.writes.begin() as connection:
        access.set_roles(connection, "eve", {Role.VIEWER})
    assert eve.post("/console/tokens/1/revoke").status_code == 303
    assert asked(app, token, "/status") == 401
    assert eve.post("/console/tokens/1/revoke").status_code == 422


def test_token_ends_with_its_date_and_with_its_person(app: FastAPI, eve: Browser, database: Database) -> None:
    token = eve.send(
        "POST", "/tokens", json={"label": "x", "roles": ["viewer"], "days": 1}, headers={"X-CSRF": eve.csrf}
    ).json()["token"]
    gate: Gate = app.state.gate
    with database.reads.begin() as connection:
        assert access.token_actor(connection, token, "", gate.now() + 86_399) is not None
        assert access.token_actor(connection, token, "", gate.now() + 86_400) is None
    with database.writes.begin() as connection:
        access.set_state(connection, "eve", "disabled")
    assert asked(app, token, "/status") == 401


def test_token_of_a_disabled_person_stays_dead_when_enabled_again(
    app: FastAPI, eve: Browser, browser: Browsers, database: Database
) -> None:
    token = token_in(eve.post("/console/tokens", {"label": "x", "roles": ["viewer"], "days": 300}))
    admin = browser(Role.ADMIN, name="ann")
    for change in ("disable", "enable"):
        assert admin.post(f"/console/users/eve/{change}").status_code == 303
        assert asked(app, token, "/status") == 401, change
    with database.reads.begin() as connection:
        (entry,) = audit_log.entries(connection, audit_log.Wanted(action="person.disable"), 9)
    assert entry["after"] == '{"state": "disabled", "tokens revoked": [1]}'


WRONG: list[tuple[dict[str, object], str]] = [
    ({"label": "x", "roles": ["admin"], "days": 1}, "you do not have the role admin yourself"),
    ({"label": " ", "roles": ["viewer"], "days": 1}, "say what the token is for"),
    ({"label": "x", "roles": ["viewer"], "days": 366}, "valid for 1 to 365 days"),
    ({"label": "x", "roles": ["viewer"], "days": 0}, "valid for 1 to 365 days"),
]


def test_wrong_tokens_name_the_fault(eve: Browser) -> None:
    for fields, fault in WRONG:
        answer = eve.post("/console/tokens", fields)
        assert answer.status_code == 422, fields
        assert fault in text_of(answer), fields


def test_only_an_administrator_sees_and_revokes_tokens_of_others(eve: Browser, browser: Browsers) -> None:
    eve.post("/console/tokens", {"label": "planning", "roles": ["viewer"], "days": 30})
    bob, admin = browser(Role.CLERK, name="bob"), browser(Role.ADMIN, name="ann")
    assert bob.post("/console/tokens/1/revoke").status_code == 422
    assert "planning" not in bob.get("/console/tokens?all=1").text
    assert bob.get("/tokens?all=true").json() == {"tokens": []}
    assert "planning" in admin.get("/console/tokens?all=1").text
    assert admin.post("/console/tokens/1/revoke").status_code == 303


def test_api_of_people_has_the_same_rules(browser: Browsers) -> None:
    admin, clerk = browser(Role.ADMIN, name="ann"), browser(Role.CLERK, name="bob")

    def post(person: Browser, path: str, content: object = None) -> Any:
        return person.send("POST", path, json=content or {}, headers={"X-CSRF": person.csrf})

    admin.post("/console/users", {"name": "eve", "roles": ["resident"], "account": "1"})
    assert post(clerk, "/people/eve/disable").status_code == 403
    assert admin.send("POST", "/people/eve/disable", json={}).status_code == 403, "another site"
    assert post(admin, "/people/eve/disable").json()["state"] == "disabled"
    assert post(admin, "/people/eve/end-sessions").json()["sessions"] == 0
    assert post(admin, "/people/nobody/disable").status_code == 422
    for gone in ("", "/eve/link", "/eve/roles", "/eve/second-factor/remove", "/eve/enable"):
        assert post(admin, f"/people{gone}", {"roles": ["admin"]}).status_code in (404, 405), gone
    listed = admin.get("/people?search=e").json()["people"]
    assert [one["name"] for one in listed] == ["eve"]
    assert listed[0]["state"] == "disabled"
