"""Sessions, links and tokens: a stolen, planted or old one is worth nothing."""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi import FastAPI
from sqlalchemy import insert, update

from commonwatt.identity.passwords import MAX_LENGTH
from harness.console import PASSWORD, Browser
from tests.unit.utility.conftest import NOW
from utility.access.passwords import hash_password
from utility.access.roles import Role
from utility.access.secrets import digest, new_token
from utility.access.store import access
from utility.access.tables import api_token, session
from utility.database.database import Database
from utility.webkit.rights import COOKIE

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
