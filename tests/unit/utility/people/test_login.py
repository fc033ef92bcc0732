"""The own login: links that work once, sessions, password and tokens; a stolen or old one is worth nothing."""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Semaphore
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import delete, insert, update
from sqlalchemy.exc import DatabaseError

from commonwatt.identity.devices import FIRST_LOGIN
from commonwatt.identity.guesses import BY_OWN_ADDRESS
from commonwatt.identity.passwords import MAX_LENGTH
from harness.console import PASSWORD, Browser, standing_api, text_of
from tests.unit.utility.conftest import NOW
from utility.access.passwords import hash_password
from utility.access.people import Role
from utility.access.secrets import digest, new_token
from utility.access.store import access, audit_log
from utility.access.tables import api_token, audit, session
from utility.assembly.application import make_app
from utility.database.database import Database
from utility.settings import UtilitySettings
from utility.webkit.rights import COOKIE, Gate


def status_of_login(visitor: Browser, name: str, password: str) -> int:
    return visitor.send("POST", "/console/login", data={"name": name, "password": password}).status_code


def test_first_administrator_sets_a_password_with_a_link_that_works_once(
    database: Database, browser: Callable[..., Browser], tmp_path: Path
) -> None:
    secret = access.first_invitation(database, NOW)
    path, first = f"/console/invitation/{secret}", tmp_path / FIRST_LOGIN
    first.write_text(path)
    settings = UtilitySettings(second_factor="optional", tokens=tmp_path / "utility-tokens.json")
    visitor = Browser(make_app(standing_api(database, NOW, settings=settings)))
    assert "Choose a password" in text_of(visitor.get(path))
    weak = visitor.send("POST", path, data={"display": "Ann", "password": "password12345"})
    assert (weak.status_code, "guessed first" in weak.text) == (422, True)
    done = visitor.send("POST", path, data={"display": "Ann", "password": PASSWORD})
    assert (done.status_code, done.headers["location"]) == (303, "/console/")
    assert not first.exists(), "no used link is printed"
    cookie = done.headers["set-cookie"]
    assert all(word in cookie for word in (f"{COOKIE}=", "HttpOnly", "Secure", "SameSite=lax", "Path=/"))
    assert visitor.get("/console/").status_code == 303
    assert visitor.get(path).status_code == 404
    assert access.first_invitation(database, NOW) is None
    other = browser()
    assert status_of_login(other, "admin", PASSWORD + "!") == 401
    assert status_of_login(other, "admin", PASSWORD) == 303
    with database.reads.begin() as connection:
        (entry,) = audit_log.entries(connection, audit_log.AuditFilter(), 10)
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
    codes = [status_of_login(visitor, "unknown", f"a wrong password {n}") for n in range(12)]
    assert codes == [401] * 10 + [429] * 2


def test_a_password_that_is_not_checked_for_want_of_room_counts_as_no_wrong_one(
    browser: Callable[..., Browser], monkeypatch: pytest.MonkeyPatch
) -> None:
    visitor = browser()
    with monkeypatch.context() as many_log_in:
        many_log_in.setattr("utility.access.passwords._room", Semaphore(0))
        assert {status_of_login(visitor, f"p{n}", PASSWORD) for n in range(12)} == {503}
    assert status_of_login(visitor, "unknown", PASSWORD) == 401


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


HASHED = hash_password(PASSWORD)


@pytest.fixture
def ann(app: FastAPI, database: Database) -> str:
    """Return the name of an operator with a password."""
    person = access.Person(
        name="ann", display="Ann", state="active", roles=frozenset({Role.OPERATOR}), account=None, created=NOW
    )
    with database.writes.begin() as connection:
        access.add_person(connection, person, "test")
        access.set_password(connection, "ann", HASHED)
    return "ann"


def log_in(visitor: Browser, name: str = "ann", password: str = PASSWORD) -> int:
    return visitor.send("POST", "/console/login", data={"name": name, "password": password}).status_code


def thief(app: FastAPI, of: Browser) -> Browser:
    other = Browser(app)
    other.address = "203.0.113.66"
    other.cookies.update(of.cookies)
    return other


@pytest.mark.parametrize("theft", ["logout", "disabled", "password", "roles", "expiry", "idle"])
def test_stolen_cookie_is_dead_or_reduced(app: FastAPI, database: Database, ann: str, theft: str) -> None:
    """ASVS 7.4.1, 7.4.2, 7.4.3, 7.3.1, 7.3.2, 8.3.2."""
    owner = Browser(app)
    assert log_in(owner) == 303
    stolen = thief(app, owner)
    assert stolen.get("/status").status_code == 200
    with database.writes.begin() as connection:
        if theft == "logout":
            access.end_session_of(connection, str(owner.cookies.get(COOKIE)))
        elif theft == "disabled":
            access.set_state(connection, ann, "disabled")
        elif theft == "password":
            access.set_password(connection, ann, hash_password("another three green boats"))
        elif theft == "roles":
            access.set_roles(connection, ann, [Role.RESEARCHER])
        elif theft == "expiry":
            connection.execute(update(session).values(until=NOW))
        else:
            connection.execute(update(session).values(used=NOW - access.IDLE_S))
    assert stolen.get("/status").status_code == (403 if theft == "roles" else 401)


def test_planted_cookie_is_not_taken_over_at_login(app: FastAPI, ann: str) -> None:
    """Session fixation (ASVS 7.2.4): neither a made-up cookie nor the attacker's own session becomes the victim's."""
    attacker = Browser(app, Role.VIEWER, name="mallory")
    for planted in ("A" * 43, str(attacker.cookies.get(COOKIE))):
        victim = Browser(app)
        victim.cookies.set(COOKIE, planted)
        assert log_in(victim) == 303
        watching = Browser(app)
        watching.cookies.set(COOKIE, planted)
        assert watching.get("/status").status_code == 401
        assert victim.get("/status").status_code == 200


def test_secrets_are_not_in_the_database(app: FastAPI, database: Database, ann: str) -> None:
    """A thief of a backup gets no session (ASVS 7.2.3: 256 bits; 13.3.1)."""
    owner = Browser(app)
    log_in(owner)
    cookie = str(owner.cookies.get(COOKIE))
    assert len(cookie) >= 43
    with database.reads.begin() as connection:
        rows = [tuple(row) for row in connection.execute(session.select())]
    assert cookie not in str(rows)
    assert digest(cookie) in str(rows)


def token_of(database: Database, name: str, roles: str, until: int = NOW + 60, revoked: int | None = None) -> str:
    token = new_token()
    row = {"person": name, "label": "x", "roles": roles, "made": NOW, "until": until, "used": None}
    with database.writes.begin() as connection:
        connection.execute(insert(api_token), row | {"digest": digest(token), "revoked": revoked})
    return token


def asked_with(app: FastAPI, authorization: str, path: str = "/status") -> int:
    return Browser(app).get(path, headers={"Authorization": authorization}).status_code


def test_token_is_valid_within_its_scope_and_time(app: FastAPI, database: Database, ann: str) -> None:
    right = token_of(database, ann, "operator")
    assert asked_with(app, f"Bearer {right}") == 200
    assert asked_with(app, f"bearer {right}") == 200
    for wrong in (
        token_of(database, ann, "operator", until=NOW),
        token_of(database, ann, "operator", revoked=NOW - 1),
        right + "x",
        right.upper(),
        "\u00e9",
    ):
        assert Browser(app).get("/status", headers={"Authorization": f"Bearer {wrong}".encode()}).status_code == 401
    for scheme in (right, f"Basic {right}", "Bearer", "Bearer ", ""):
        assert asked_with(app, scheme) == 401
    # The person has no role `admin`, which the token names, and the token does not name `operator`.
    assert asked_with(app, f"Bearer {token_of(database, ann, 'admin,researcher')}") == 403
    with database.writes.begin() as connection:
        access.set_state(connection, ann, "disabled")
    assert asked_with(app, f"Bearer {right}") == 401


def test_token_in_place_of_a_cookie_and_the_reverse_are_refused(app: FastAPI, database: Database, ann: str) -> None:
    owner = Browser(app)
    log_in(owner)
    assert asked_with(app, f"Bearer {owner.cookies.get(COOKIE)}") == 401
    swapped = Browser(app)
    swapped.cookies.set(COOKIE, token_of(database, ann, "operator"))
    assert swapped.get("/status").status_code == 401
    # A wrong token does not fall back to the cookie.
    assert owner.get("/status", headers={"Authorization": "Bearer nothing"}).status_code == 401


def test_last_use_is_stored_every_five_minutes(app: FastAPI, database: Database, ann: str) -> None:
    token = token_of(database, ann, "operator")
    assert asked_with(app, f"Bearer {token}") == 200
    with database.reads.begin() as connection:
        assert connection.execute(api_token.select()).one().used == NOW


def test_people_can_read_while_nothing_can_be_stored(
    app: FastAPI, database: Database, ann: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    owner, token = Browser(app), token_of(database, ann, "operator")
    log_in(owner)
    with database.writes.begin() as connection:
        connection.execute(update(session).values(used=NOW - access.USED_EVERY_S))
        connection.exec_driver_sql("PRAGMA query_only = ON")
    assert owner.get("/status").status_code == 200
    assert asked_with(app, f"Bearer {token}") == 200
    assert "could not be stored" in caplog.text


def test_link_of_an_invitation_sets_one_password_when_two_people_open_it(
    app: FastAPI, database: Database, browser: Callable[..., Browser]
) -> None:
    secret = access.first_invitation(database, NOW)
    visitors = [browser(), browser(), browser()]

    def accept(n: int) -> int:
        fields = {"display": "", "password": f"three slow green boats {n}"}
        return visitors[n].send("POST", f"/console/invitation/{secret}", data=fields).status_code

    with ThreadPoolExecutor(3) as pool:
        codes = sorted(pool.map(accept, range(3)))
    assert codes[0] == 303
    assert set(codes[1:]) <= {404, 409}
    assert [visitor.get("/console/login").status_code for visitor in visitors].count(303) == 1


def test_link_of_a_disabled_person_stays_dead_when_enabled_again(app: FastAPI, database: Database, ann: str) -> None:
    with database.writes.begin() as connection:
        secret = access.invite(connection, ann, "test", NOW)
        access.set_state(connection, ann, "disabled")
        access.set_state(connection, ann, "active")
        assert access.invited(connection, secret, NOW) is None


def test_unknown_name_takes_as_long_as_a_wrong_password(
    app: FastAPI, ann: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same work is done for both (counted, since times of a loaded machine say nothing), with the same answer."""
    from utility.access import passwords

    done = []
    verify = passwords._hasher.verify.__func__  # type: ignore[attr-defined]

    def counted(hasher: object, stored: str, password: bytes) -> bool:
        done.append(stored.rsplit("$", 2)[0])
        return bool(verify(hasher, stored, password))

    monkeypatch.setattr(type(passwords._hasher), "verify", counted)
    answers = [
        Browser(app).send("POST", "/console/login", data={"name": name, "password": "a wrong password"})
        for name in ("ann", "nobody")
    ]
    assert answers[0].text == answers[1].text
    assert [answer.status_code for answer in answers] == [401, 401]
    assert done == [done[0]] * 2


def test_owner_logs_in_from_a_known_address_under_attack(app: FastAPI, ann: str) -> None:
    owner = Browser(app)
    owner.address = "192.0.2.1"
    assert log_in(owner) == 303
    codes = []
    for n in range(25):
        guesser = Browser(app)
        guesser.address = f"198.51.100.{n}"
        codes.append(log_in(guesser, "ann", f"wrong password {n}"))
    assert codes[-1] == 429
    assert log_in(owner) == 303


def test_many_logins_at_once_are_refused_and_leave_threads_for_others(app: FastAPI) -> None:
    from utility.access import passwords

    held = [passwords._room.acquire(blocking=False) for _ in range(passwords.MAX_AT_ONCE + passwords.MAX_WAITING)]
    try:
        answer = Browser(app).send("POST", "/console/login", data={"name": "x", "password": "y"})
    finally:
        for _ in held:
            passwords._room.release()
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


def test_long_password_is_not_cut(app: FastAPI, database: Database, ann: str) -> None:
    """ASVS 6.2.8: a password of the greatest length with more behind it is another one."""
    longest = "three slow green boats " * 12
    longest = longest[:MAX_LENGTH]
    with database.writes.begin() as connection:
        access.set_password(connection, ann, hash_password(longest))
    assert log_in(Browser(app), ann, longest + "x") == 401
    assert log_in(Browser(app), ann, longest[:-1]) == 401
    assert log_in(Browser(app), ann, longest) == 303


def test_one_session_too_many_ends_the_oldest(app: FastAPI, database: Database, ann: str) -> None:
    with database.writes.begin() as connection:
        cookies = [
            access.open_session(connection, ann, "192.0.2.1", "x", NOW - access.MAX_SESSIONS + n).cookie
            for n in range(access.MAX_SESSIONS + 1)
        ]
    codes = []
    for cookie in cookies:
        visitor = Browser(app)
        visitor.cookies.set(COOKIE, cookie)
        codes.append(visitor.get("/status").status_code)
    assert codes == [401] + [200] * access.MAX_SESSIONS


def test_fields_of_passwords_are_for_password_managers(app: FastAPI, database: Database, ann: str) -> None:
    """ASVS 6.2.6, 6.2.7."""
    with database.writes.begin() as connection:
        secret = access.invite(connection, ann, "test", NOW)
    person = Browser(app, Role.VIEWER)
    pages = {
        "/console/login": (Browser(app), ["current-password"]),
        f"/console/invitation/{secret}": (Browser(app), ["new-password"]),
        "/console/account": (person, ["current-password", "new-password", "current-password"]),
    }
    for path, (visitor, wanted) in pages.items():
        fields = re.findall(r"<input[^>]*type=\"password\"[^>]*>", visitor.get(path).text)
        assert [re.findall(r"autocomplete=\"([a-z-]+)\"", field)[0] for field in fields] == wanted, path
        assert not any("onpaste" in field for field in fields)


def test_logout_clears_what_the_browser_kept(app: FastAPI, ann: str) -> None:
    owner = Browser(app)
    log_in(owner)
    with app.state.gate.database.reads.begin() as connection:
        found = access.session_actor(connection, str(owner.cookies.get(COOKIE)), "", NOW)
    assert found is not None
    answer = owner.send("POST", "/console/logout", data={"csrf": found[0].csrf})
    assert answer.headers["clear-site-data"] == '"storage"'
    assert f'{COOKIE}=""' in answer.headers["set-cookie"]
    assert "Secure" in answer.headers["set-cookie"]
    assert not owner.cookies.get(COOKIE)


def test_logins_and_refusals_are_logged(app: FastAPI, ann: str, caplog: pytest.LogCaptureFixture) -> None:
    """ASVS 16.3.1, 16.3.2: with name and address, and without any secret."""
    caplog.set_level("INFO", logger="utility")
    owner = Browser(app)
    owner.address = "192.0.2.1"
    log_in(owner, password="a wrong password")
    assert any("wrong name or password from 192.0.2.1" in line for line in caplog.messages)
    assert log_in(owner) == 303
    assert any("ann logged in from 192.0.2.1" in line for line in caplog.messages)
    assert owner.get("/console/users/x%0d%0aforged").status_code == 403
    assert owner.get("/console/users").status_code == 403
    assert any("refused to ann from 192.0.2.1: GET /console/users: this needs" in line for line in caplog.messages)
    assert owner.send("POST", "/console/logout", data={}).status_code == 403
    assert any("refused to ann" in line and "POST /console/logout" in line for line in caplog.messages)
    told = "\n".join(caplog.messages)
    assert not any(
        secret in told for secret in (PASSWORD, "a wrong password", str(owner.cookies.get(COOKIE)), "forged")
    )


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
            rows = audit_log.entries(connection, audit_log.AuditFilter(action="session.end"), 20)
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
        (entry,) = audit_log.entries(connection, audit_log.AuditFilter(action="person.disable"), 9)
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
