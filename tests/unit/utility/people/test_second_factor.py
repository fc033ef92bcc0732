"""The second factor: without it a password opens nothing, with it each code opens one session."""

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from fastapi import FastAPI
from sqlalchemy import event

from harness.console import PASSWORD, Browser, shown, text_of, wrong
from harness.routes import ruled
from tests.unit.utility.conftest import NOW
from utility.access.passwords import hash_password
from utility.access.people import Role
from utility.access.secrets import WRONG_AT_ONCE, WRONG_EACH_S
from utility.access.store import access, audit_log, second_factors
from utility.assembly.application import make_app
from utility.database.database import Database
from utility.people.pages.login import STARTED
from utility.settings import UtilitySettings
from utility.webkit.rights import COOKIE, SET_UP, Gate
from utility.webkit.services import Api

Browsers = Callable[..., Browser]

HASHED = hash_password(PASSWORD)
OTHER = "four quick red trains"
CODE_PAGE = "/console/login/code"


class Machine:
    """The machine's clock, by which codes, logins and sessions end."""

    def __init__(self, app: FastAPI) -> None:
        self.now = NOW
        self.drives(app)

    def drives(self, app: FastAPI) -> None:
        gate: Gate = app.state.gate
        app.state.gate = replace(gate, now=lambda: self.now)


@pytest.fixture
def machine(app: FastAPI) -> Machine:
    return Machine(app)


@pytest.fixture
def eve(browser: Browsers, database: Database, machine: Machine) -> Browser:
    person = browser(Role.VIEWER, name="eve")
    with database.writes.begin() as connection:
        connection.exec_driver_sql("UPDATE person SET password = ? WHERE name = 'eve'", (HASHED,))
    return person


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match is not None, pattern
    return match[1]


def offered(person: Browser, **fields: str) -> str:
    answer = person.post(f"{SET_UP}/offer", {"current": PASSWORD, **fields})
    assert answer.status_code == 200, text_of(answer)
    return found(r'name="secret" value="(\w+)"', answer.text)


def confirmed(person: Browser, seed: str, now: int) -> list[str]:
    answer = person.post(f"{SET_UP}/confirm", {"secret": seed, "code": shown(seed, now)})
    assert answer.status_code == 200, text_of(answer)
    person.csrf = found(r'<meta name="csrf" content="([\w-]+)"', answer.text)
    return re.findall(r"<code>([\w-]+)</code>", answer.text)


@pytest.fixture
def seed(eve: Browser, machine: Machine) -> str:
    """Return the secret of eve's second factor, a minute after it was set up."""
    made = offered(eve)
    confirmed(eve, made, machine.now)
    machine.now += 60
    return made


def with_password(visitor: Browser, password: str = PASSWORD) -> Browser:
    answer = visitor.send("POST", "/console/login", data={"name": "eve", "password": password})
    assert answer.status_code == 303
    assert answer.headers["location"].startswith(CODE_PAGE)
    assert COOKIE not in visitor.cookies
    return visitor


def with_token(person: Browser) -> dict[str, str]:
    made = person.post("/console/tokens", {"label": "planning", "roles": ["viewer"], "days": 9})
    return {"Authorization": "Bearer " + found(r"(cwt_[\w-]+)", made.text)}


def step(visitor: Browser, code: str = "", recovery: str = "") -> int:
    fields = {"code": code, "recovery": recovery, "next": "/console/town"}
    return visitor.send("POST", CODE_PAGE, data=fields).status_code


def test_second_factor_is_set_up_with_an_app_and_asked_for_at_login(
    eve: Browser, browser: Browsers, machine: Machine, database: Database
) -> None:
    second, before = browser(Role.VIEWER, name="eve"), str(eve.cookies[COOKIE])
    assert eve.post(f"{SET_UP}/offer", {"current": OTHER}).status_code == 422, "a session alone is not enough"
    page = eve.post(f"{SET_UP}/offer", {"current": PASSWORD})
    seed = found(r'name="secret" value="(\w+)"', page.text)
    assert " ".join(re.findall("....", seed)) in text_of(page)
    assert f"otpauth://totp/Commonwatt:eve?secret={seed}" in page.text
    assert '<path fill="#000" d="M4 4h1v1h-1z' in page.text
    assert ("style=" in page.text, 'src="data:' in page.text) == (False, False)
    again = eve.post(f"{SET_UP}/confirm", {"secret": seed, "code": wrong(seed, machine.now)})
    assert (again.status_code, "The code is wrong" in again.text) == (422, True)
    codes = confirmed(eve, seed, machine.now)
    assert (len(codes), {len(code) for code in codes}) == (10, {29})
    assert (second.get("/status").status_code, eve.get("/status").status_code) == (401, 200)
    assert eve.cookies[COOKIE] != before
    assert "10 recovery codes left" in text_of(eve.get(SET_UP))
    machine.now += 30
    visitor = with_password(browser())
    assert 'autocomplete="one-time-code"' in visitor.get(CODE_PAGE).text
    done = visitor.send("POST", CODE_PAGE, data={"code": shown(seed, machine.now), "next": "/console/town"})
    assert (done.status_code, done.headers["location"]) == (303, "/console/town")
    cookie = next(line for line in done.headers.get_list("set-cookie") if line.startswith(f"{COOKIE}="))
    assert all(word in cookie for word in ("HttpOnly", "Secure", "SameSite=lax"))
    assert (visitor.get("/status").status_code, STARTED in visitor.cookies) == (200, False)
    with database.reads.begin() as connection:
        entries = audit_log.entries(connection, audit_log.AuditFilter(subject="eve"), 9)
    assert [(one["person"], one["action"], one["after"]) for one in entries] == [
        ("eve", "person.second-factor", '"on"')
    ]


def test_code_opens_one_session(seed: str, browser: Browsers, machine: Machine) -> None:
    """ASVS 6.5.1."""
    code, first, second = shown(seed, machine.now), with_password(browser()), with_password(browser())
    started = str(first.cookies[STARTED])
    assert (step(first, f"{code[:3]} {code[3:]}"), step(second, code)) == (303, 401)
    machine.now += 30
    assert step(second, shown(seed, machine.now)) == 303
    replayed = browser()
    replayed.cookies.set(STARTED, started)
    machine.now += 30
    assert step(replayed, shown(seed, machine.now)) == 410, "a login that is complete can't be completed again"


def test_password_alone_opens_nothing(seed: str, app: FastAPI, browser: Browsers, machine: Machine) -> None:
    """What the browser has between the two steps is no session, and belongs to that browser."""
    visitor = with_password(browser())
    for route in ruled(app):
        if route.roles is not None:
            answer = visitor.send(route.method, route.address({}))
            assert (answer.status_code, answer.headers.get("location", "/console/login")[:14]) in (
                (401, "/console/login"),
                (303, "/console/login"),
            ), route
    as_session = browser()
    as_session.cookies.set(COOKIE, str(visitor.cookies[STARTED]))
    assert as_session.get("/status").status_code == 401
    assert step(browser(), shown(seed, machine.now)) == 410, "another browser"
    own = str(Browser(app, Role.VIEWER, name="mallory").cookies[COOKIE])
    visitor.cookies.set(COOKIE, own, domain="localhost.local")
    assert step(visitor, shown(seed, machine.now)) == 303
    assert visitor.cookies[COOKIE] != own, "a planted session is not taken over"


def test_started_login_ends(seed: str, browser: Browsers, machine: Machine, database: Database) -> None:
    late, tired, changed = (with_password(browser()) for _ in range(3))
    for _ in range(second_factors.MAX_WRONG):
        assert step(tired, recovery="AAAA-BBBB-CCCC-DDDD-EEEE-FFFF") == 401
    assert step(tired, shown(seed, machine.now)) == 410
    with database.writes.begin() as connection:
        access.set_password(connection, "eve", hash_password(OTHER))
    assert step(changed, shown(seed, machine.now)) == 410
    late = with_password(browser(), OTHER)
    machine.now += second_factors.LASTS_S
    assert "Log in again" in text_of(late.get(CODE_PAGE))
    assert step(late, shown(seed, machine.now)) == 410


def test_code_of_a_stranger_waits_for_no_writer(browser: Browsers, database: Database, machine: Machine) -> None:
    stranger = browser()
    with database.writes.begin():
        assert step(stranger, "123456") == 410, "strangers must not take turns with the readings that arrive"


def test_wrong_password_does_not_tell_by_its_time_who_has_a_second_factor(
    seed: str, browser: Browsers, database: Database
) -> None:
    asked: list[str] = []
    event.listen(database.reads, "before_cursor_execute", lambda *given: asked.append(given[2]))
    said = []
    for name in ("eve", "unknown"):
        answer = browser().send("POST", "/console/login", data={"name": name, "password": OTHER})
        assert answer.status_code == 401
        said.append([*asked])
        asked.clear()
    assert said[0] == said[1], "the database is asked the same of everybody"


def test_wrong_codes_are_limited_also_after_a_restart(
    seed: str, eve: Browser, app: FastAPI, browser: Browsers, machine: Machine, database: Database
) -> None:
    guessing = with_password(browser())
    assert [step(guessing, wrong(seed, machine.now)) for _ in range(WRONG_AT_ONCE // 2)] == [401] * 5
    for _ in range(WRONG_AT_ONCE // 2):  # From another address, and with a session that was left open.
        fields = {"current": PASSWORD, "code": wrong(seed, machine.now)}
        assert eve.post(f"{SET_UP}/remove", fields).status_code == 422
    console = app.state.console
    restarted = make_app(replace(console.api))
    machine.drives(restarted)
    visitor = with_password(Browser(restarted))
    answer = visitor.send("POST", CODE_PAGE, data={"code": shown(seed, machine.now)})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, str(WRONG_EACH_S))
    with database.reads.begin() as connection:
        assert second_factors.in_force(connection, "eve") is not None
    machine.now += WRONG_EACH_S
    assert step(with_password(Browser(restarted)), wrong(seed, machine.now)) == 401
    assert step(with_password(Browser(restarted)), shown(seed, machine.now)) == 429


def test_recovery_code_logs_in_once_also_while_others_guess(eve: Browser, browser: Browsers, machine: Machine) -> None:
    seed = offered(eve)
    codes = confirmed(eve, seed, machine.now)
    for guessing in (with_password(browser()), with_password(browser())):
        assert [step(guessing, wrong(seed, machine.now)) for _ in range(WRONG_AT_ONCE // 2)] == [401] * 5
    assert step(with_password(browser()), shown(seed, machine.now)) == 429
    assert step(with_password(browser()), recovery=codes[0].lower().replace("-", " ").replace("o", "0")) == 303
    assert step(with_password(browser()), recovery=codes[0]) == 401
    assert "9 recovery codes left" in text_of(eve.get(SET_UP))


def test_link_for_a_new_password_does_not_replace_the_second_factor(
    seed: str, eve: Browser, browser: Browsers, machine: Machine
) -> None:
    """ASVS 6.4.3."""
    headers = with_token(eve)
    assert browser().get("/status", headers=headers).status_code == 200
    admin, visitor = browser(Role.ADMIN, name="ann"), browser()
    path = found(r"https://localhost(/console/invitation/[\w-]+)", admin.post("/console/users/eve/link").text)
    answer = visitor.send("POST", path, data={"password": OTHER})
    assert answer.headers["location"].startswith(CODE_PAGE)
    assert COOKIE not in visitor.cookies
    assert step(visitor, shown(seed, machine.now)) == 303
    assert browser().get("/status", headers=headers).status_code == 401, "a lost password ends the tokens"


def test_tokens_end_with_the_password_if_the_person_wants_it(eve: Browser, browser: Browsers) -> None:
    """ASVS 7.4.3."""
    headers = with_token(eve)
    for current, new, fields, code in ((PASSWORD, OTHER, {}, 200), (OTHER, PASSWORD, {"tokens": "true"}, 401)):
        answer = eve.post("/console/account/password", {"current": current, "new": new, **fields})
        assert answer.status_code == 303
        assert browser().get("/status", headers=headers).status_code == code
        eve.csrf = found(r'<meta name="csrf" content="([\w-]+)"', eve.get("/console/account").text)


def test_old_device_works_until_the_new_one_is_confirmed(
    seed: str, eve: Browser, app: FastAPI, browser: Browsers, machine: Machine
) -> None:
    assert eve.post(f"{SET_UP}/offer", {"current": PASSWORD}).status_code == 422, "needs a code of the old one"
    first = offered(eve, code=shown(seed, machine.now))
    machine.now += 30
    second = offered(eve, code=shown(seed, machine.now))
    assert eve.post(f"{SET_UP}/confirm", {"secret": first, "code": shown(first, machine.now)}).status_code == 422
    machine.now += 30
    assert step(with_password(browser()), shown(second, machine.now)) == 401
    assert step(with_password(browser()), shown(seed, machine.now)) == 303
    confirmed(eve, second, machine.now)
    machine.now += 30
    assert step(with_password(browser()), shown(seed, machine.now)) == 401
    assert step(with_password(browser()), shown(second, machine.now)) == 303


def test_second_factor_is_removed_by_its_owner_or_by_an_administrator(
    seed: str, eve: Browser, browser: Browsers, machine: Machine, database: Database
) -> None:
    admin, other, waiting = browser(Role.ADMIN, name="ann"), browser(Role.VIEWER, name="eve"), with_password(browser())
    assert "this is you" in text_of(admin.post("/console/users/ann/second-factor/remove"))
    fields = {"current": PASSWORD, "code": shown(seed, machine.now)}
    assert eve.post(f"{SET_UP}/remove", fields).status_code == 303
    assert (eve.get("/status").status_code, other.get("/status").status_code) == (200, 401)
    assert step(waiting, shown(seed, machine.now)) == 410
    eve.csrf = found(r'<meta name="csrf" content="([\w-]+)"', eve.get(SET_UP).text)
    new = offered(eve)
    confirmed(eve, new, machine.now)
    assert "Second factor on" in text_of(admin.get("/console/users/eve"))
    assert admin.post("/console/users/eve/second-factor/remove").status_code == 303
    assert eve.get("/status").status_code == 401
    assert "has no second factor" in text_of(admin.post("/console/users/eve/second-factor/remove"))
    assert browser().send("POST", "/console/login", data={"name": "eve", "password": PASSWORD}).headers["location"] == (
        "/console/"
    )
    with database.reads.begin() as connection:
        entries = audit_log.entries(connection, audit_log.AuditFilter(action="person.second-factor"), 9)
    assert [(one["person"], one["after"]) for one in reversed(entries)] == [
        ("eve", '"on"'),
        ("eve", '"off"'),
        ("eve", '"on"'),
        ("ann", '"off"'),
    ]


@pytest.fixture
def strict(app: FastAPI, settings: UtilitySettings, machine: Machine) -> FastAPI:
    """Return the application of a utility that requires a second factor of its staff."""
    api: Api = app.state.console.api
    made = make_app(replace(api, settings=settings.model_copy(update={"second_factor": "staff"})))
    machine.drives(made)
    return made


def test_staff_without_a_required_factor_can_only_set_it_up(
    eve: Browser, strict: FastAPI, machine: Machine, database: Database
) -> None:
    headers = with_token(eve)
    eve.app = strict  # A session from before the setting, too.
    allowed = set()
    for route in ruled(strict):
        if route.roles is not None and route.path != "/console/logout":
            answer = eve.send(route.method, route.address({}), headers={"X-CSRF": eve.csrf})
            is_led = (answer.status_code, answer.headers.get("location")) == (303, SET_UP)
            if answer.status_code != 403 and not is_led:
                allowed.add(route.path)
    assert allowed == {SET_UP, f"{SET_UP}/offer", f"{SET_UP}/confirm", f"{SET_UP}/remove"}
    assert Browser(strict).get("/status", headers=headers).status_code == 403
    page = eve.get(SET_UP)
    assert ("requires a second factor" in text_of(page), "/console/alarms" in page.text) == (True, False)
    confirmed(eve, offered(eve), machine.now)
    assert eve.get("/status").status_code == 200
    assert Browser(strict).get("/status", headers=headers).status_code == 200
    assert Browser(strict, Role.RESIDENT, name="r", account=1).get("/console/account").status_code == 200
    assert Browser(strict, Role.VIEWER, name="bob").post("/console/logout").status_code == 303


def test_secrets_of_second_factors_are_stored_as_digests_but_the_apps(
    seed: str, browser: Browsers, database: Database
) -> None:
    """A thief of a backup gets no recovery code and no started login."""
    visitor = with_password(browser())
    with database.reads.begin() as connection:
        stored = str(
            [
                tuple(row)
                for name in ("second_factor", "recovery_code", "started_login")
                for row in connection.exec_driver_sql(f"SELECT * FROM {name}")
            ]
        )
    assert str(visitor.cookies[STARTED]) not in stored
    assert stored.count(seed) == 1


def test_secret_is_not_logged_when_the_database_fails(
    eve: Browser, database: Database, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    seed = offered(eve)
    with database.writes.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER fails BEFORE UPDATE ON second_factor BEGIN SELECT RAISE(ABORT, 'it fails'); END"
        )
    answer = eve.post(f"{SET_UP}/confirm", {"secret": seed, "code": shown(seed, machine.now)})
    assert (answer.status_code, seed in answer.text) == (503, False)
    assert ("it fails" in caplog.text, seed in caplog.text) == (True, False)
