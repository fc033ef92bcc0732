"""People log in with a link that works once, and what they may do ends with the session."""

from collections.abc import Callable
from threading import Semaphore

import pytest
from fastapi import FastAPI
from sqlalchemy import delete, update
from sqlalchemy.exc import DatabaseError

from harness.console import PASSWORD, Browser, text_of
from tests.unit.utility.conftest import NOW
from utility.access.roles import Role
from utility.access.store import access, audit_log
from utility.access.tables import audit
from utility.database.database import Database
from utility.webkit.rights import COOKIE


def log_in(visitor: Browser, name: str, password: str) -> int:
    return visitor.send("POST", "/console/login", data={"name": name, "password": password}).status_code


def test_first_administrator_sets_a_password_with_a_link_that_works_once(
    database: Database, browser: Callable[..., Browser]
) -> None:
    secret = access.first_invitation(database, NOW)
    path, visitor = f"/console/invitation/{secret}", browser()
    assert "Choose a password" in text_of(visitor.get(path))
    weak = visitor.send("POST", path, data={"display": "Ann", "password": "password12345"})
    assert (weak.status_code, "guessed first" in weak.text) == (422, True)
    done = visitor.send("POST", path, data={"display": "Ann", "password": PASSWORD})
    assert (done.status_code, done.headers["location"]) == (303, "/console/")
    cookie = done.headers["set-cookie"]
    assert all(word in cookie for word in (f"{COOKIE}=", "HttpOnly", "Secure", "SameSite=lax", "Path=/"))
    assert visitor.get("/console/").status_code == 303
    assert visitor.get(path).status_code == 404
    assert access.first_invitation(database, NOW) is None
    other = browser()
    assert log_in(other, "admin", PASSWORD + "!") == 401
    assert log_in(other, "admin", PASSWORD) == 303
    with database.reads.begin() as connection:
        (entry,) = audit_log.entries(connection, audit_log.Wanted(), 10)
    assert (entry["person"], entry["action"]) == ("admin", "person.password")


def test_cookie_is_dead_after_logout(browser: Callable[..., Browser]) -> None:
    person = browser(Role.VIEWER)
    kept = dict(person.cookies)
    assert person.get("/status").status_code == 200
    assert person.post("/console/logout").status_code == 303
    person.cookies.update(kept)
    assert person.get("/status").status_code == 401
    page = person.get("/console/")
    assert (page.status_code, page.headers["location"]) == (303, "/console/login?next=/console/")


@pytest.mark.parametrize(
    "headers", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}]
)
def test_forms_of_other_sites_change_nothing(browser: Callable[..., Browser], headers: dict[str, str]) -> None:
    person = browser(Role.VIEWER)
    assert person.post("/console/logout", headers=headers).status_code == 403
    assert person.send("POST", "/console/logout", data={}).status_code == 403
    assert person.get("/status").status_code == 200


def test_guesses_are_slowed_down(app: FastAPI, browser: Callable[..., Browser]) -> None:
    visitor = browser()
    codes = [log_in(visitor, "unknown", f"a wrong password {n}") for n in range(12)]
    assert codes == [401] * 10 + [429] * 2


def test_a_password_that_is_not_checked_for_want_of_room_counts_as_no_wrong_one(
    browser: Callable[..., Browser], monkeypatch: pytest.MonkeyPatch
) -> None:
    visitor = browser()
    with monkeypatch.context() as many_log_in:
        many_log_in.setattr("utility.access.passwords._room", Semaphore(0))
        assert {log_in(visitor, f"p{n}", PASSWORD) for n in range(12)} == {503}
    assert log_in(visitor, "unknown", PASSWORD) == 401


def test_login_goes_on_to_our_own_pages_only(database: Database, browser: Callable[..., Browser]) -> None:
    visitor = browser()
    link = f"/console/invitation/{access.first_invitation(database, NOW)}"
    visitor.send("POST", link, data={"display": "", "password": PASSWORD})
    for path, goes_to in (
        ("/console/town", "/console/town"),
        ("//evil.example", "/console/"),
        ("https://e", "/console/"),
    ):
        fields = {"name": "admin", "password": PASSWORD, "next": path}
        assert browser().send("POST", "/console/login", data=fields).headers["location"] == goes_to


def test_every_answer_has_the_security_headers(browser: Callable[..., Browser]) -> None:
    for path in ("/console/login", "/status", "/health", "/nothing"):
        headers = browser().get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert "max-age=31536000" in headers["strict-transport-security"]


def test_audit_log_only_grows(database: Database, browser: Callable[..., Browser]) -> None:
    browser().send(
        "POST",
        f"/console/invitation/{access.first_invitation(database, NOW)}",
        data={"display": "", "password": PASSWORD},
    )
    for statement in (delete(audit), update(audit).values(person="somebody")):
        with pytest.raises(DatabaseError, match="only grows"), database.writes.begin() as connection:
            connection.execute(statement)
