"""Administrators invite, change and disable people, by pages and commands; the last administrator stays."""

import ast
import csv
import html
import io
import json
import logging
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from getpass import getuser
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace
from typing import cast
from urllib.parse import urlencode

import pytest

from commonwatt.identity.devices import FIRST_LOGIN
from commonwatt.runtime.clock import Clock, machine_s, save_clock
from harness.console import PASSWORD, Browser, shown, text_of
from harness.surroundings import databases
from tests.unit.utility.conftest import NOW
from utility.access.audit import ACTIONS
from utility.access.people import AccessFaultError, Actor, NewPerson, Role, Via
from utility.access.store import access, audit_log, second_factors
from utility.access.store.access import MAX_TOKENS, make_token, revoke_token, tokens
from utility.access.store.audit_log import BROKEN, REFUSED, By
from utility.assembly.service import UtilityService
from utility.corrections.correction import Review
from utility.database.database import Database
from utility.ledger.decisions import DECISIONS
from utility.people.store import change_roles, disable, enable, invite_people, list_people, new_link
from utility.settings import UtilitySettings
from utility.webkit.console.console import SAID

Browsers = Callable[..., Browser]

LINK = re.compile(r"https://localhost(/console/invitation/[\w-]+)")


@pytest.fixture
def admin(browser: Browsers) -> Browser:
    return browser(Role.ADMIN, name="ann")


def link_in(text: str) -> str:
    found = LINK.search(text)
    assert found is not None
    return found[1]


def accept(visitor: Browser, path: str) -> int:
    return visitor.send("POST", path, data={"display": "", "password": PASSWORD}).status_code


def log_in(visitor: Browser, name: str) -> int:
    return visitor.send("POST", "/console/login", data={"name": name, "password": PASSWORD}).status_code


def actions(database: Database) -> list[tuple[str, str, str]]:
    with database.reads.begin() as connection:
        found = audit_log.entries(connection, audit_log.AuditFilter(), 99)
    return [(one["person"], one["action"], one["subject"]) for one in reversed(found)]


@pytest.mark.parametrize(
    ("display", "login"),
    [("Home 1", "home-1"), ("Mül\u00a0ler!", "mul-ler"), ("7 a", "a"), ("日本", ""), ('"><b id=x>', "b-id-x")],
)
def test_invitation_form_is_filled_in_for_an_account_and_a_name(admin: Browser, display: str, login: str) -> None:
    page = admin.get(f"/console/users?{urlencode({'account': '3', 'display': display})}").text
    form = page[page.index('id="invite"') :]
    values = dict(re.findall(r'<input name="(\w+)"[^>]*? value="([^"]*)"', form))
    assert {name: html.unescape(value) for name, value in values.items()} == {
        "name": login,
        "display": display,
        "account": "3",
    }
    assert re.findall(r'name="roles" value="(\w+)"', form) == ["resident"], "no other role is asked"
    assert admin.get("/console/users?account=x").status_code == 422


def test_invited_person_logs_in_with_the_roles_given_until_disabled(
    admin: Browser, browser: Browsers, database: Database
) -> None:
    answer = admin.post("/console/users", {"name": "eve", "display": "Eve", "roles": ["clerk", "viewer"]})
    path = link_in(answer.text)
    assert "It opens on this computer alone" in answer.text, "https://localhost"
    assert link_in(answer.text) not in admin.get("/console/users/eve").text, "shown once"
    visitor = browser()
    assert accept(visitor, path) == 303
    assert visitor.get("/status").status_code == 200
    assert visitor.get("/console/users").status_code == 403
    assert "clerk, viewer" in text_of(admin.get("/console/users?search=eve"))
    refused = admin.post("/console/users/eve/roles", {"roles": ["researcher"]})
    assert "would lose: clerk, viewer" in text_of(refused), "roles end only if the form says so"
    assert admin.post("/console/users/eve/roles", {"roles": ["researcher"], "sure": "true"}).status_code == 303
    assert visitor.get("/status").status_code == 403, "a role that is lost counts at once"
    assert admin.post("/console/users/eve/disable").status_code == 303
    assert visitor.get("/console/account").status_code == 303
    assert log_in(browser(), "eve") == 401
    assert admin.post("/console/users/eve/enable").status_code == 303
    assert log_in(browser(), "eve") == 401, "the maker of the earlier link may know this password"
    assert accept(browser(), link_in(admin.post("/console/users/eve/link").text)) == 303
    words = text_of(admin.get("/console/users/eve"))
    assert "roles: clerk, viewer → researcher" in words
    assert actions(database) == [
        ("ann", "person.invite", "eve"),
        ("eve", "person.password", "eve"),
        ("ann", "person.roles", "eve"),
        ("ann", "person.disable", "eve"),
        ("ann", "person.enable", "eve"),
        ("ann", "person.link", "eve"),
        ("eve", "person.password", "eve"),
    ]


def test_new_link_ends_password_and_sessions_at_once(admin: Browser, browser: Browsers) -> None:
    visitor = browser()
    accept(visitor, link_in(admin.post("/console/users", {"name": "eve", "roles": ["viewer"]}).text))
    first = link_in(admin.post("/console/users/eve/link").text)
    path = link_in(admin.post("/console/users/eve/link").text)
    assert visitor.get("/status").status_code == 401
    assert log_in(browser(), "eve") == 401
    admin.post("/console/users/eve/disable")
    assert accept(browser(), path) == 404, "no link works for a disabled person"
    admin.post("/console/users/eve/enable")
    assert log_in(browser(), "eve") == 401, "the password from before the link does not come back"
    newest = link_in(admin.post("/console/users/eve/link").text)
    assert [accept(browser(), each) for each in (first, newest, newest)] == [404, 303, 404]


def test_the_last_administrator_stays(admin: Browser, browser: Browsers) -> None:
    assert admin.post("/console/users/ann/roles", {"roles": ["viewer"]}).status_code == 422
    for change in ("disable", "link"):
        assert "this is you" in admin.post(f"/console/users/ann/{change}").text
    other = browser(Role.ADMIN, name="bob")
    assert other.post("/console/users/ann/disable").status_code == 303
    assert (
        "the last administrator" in other.post("/console/users/bob/roles", {"roles": ["viewer"], "sure": "true"}).text
    )
    assert other.get("/console/users").status_code == 200


WRONG: list[tuple[dict[str, object], str]] = [
    ({"name": "Eve", "roles": ["viewer"]}, "is no name"),
    ({"name": "this-machine", "roles": ["viewer"]}, "is reserved"),
    ({"name": "machine", "roles": ["viewer"]}, "is reserved"),
    ({"name": "service", "roles": ["viewer"]}, "is reserved"),
    ({"name": "eve", "roles": ["resident"]}, "a resident needs the number of an account"),
    ({"name": "eve", "roles": ["viewer"], "account": "1"}, "only a resident has one"),
    (
        {"name": "eve", "roles": ["resident"], "account": "77"},
        "Account of a resident: 77 is not registered. Nothing was changed.",
    ),
    ({"name": "ann", "roles": ["viewer"]}, "there is a person called ann already"),
    ({"name": "eve", "roles": ["king"]}, "choose one that is offered"),
]


def test_wrong_invitations_name_the_fault_and_change_nothing(admin: Browser, database: Database) -> None:
    for fields, fault in WRONG:
        answer = admin.post("/console/users", fields)
        assert answer.status_code == 422, fields
        assert fault in text_of(answer), fields
    assert actions(database) == []


def test_many_residents_are_invited_at_once_or_none(admin: Browser, browser: Browsers, database: Database) -> None:
    for wrong, fault in (
        ("name\nx", "names of the columns"),
        ("account\n1\nx", "row 3, column account"),
        ("account,name\n1,eve\n2,eve\n99,bob", "person 2: name: there is a person called eve already"),
        ("account\n" + "1\n" * 1001, "at most 1,000"),
        ("account,name\n1," + "x" * 131_073, "read as CSV: field larger than field limit"),
    ):
        answer = admin.post("/console/residents", {"residents": wrong})
        assert (answer.status_code, fault in text_of(answer)) == (422, True)
    assert actions(database) == []
    answer = admin.post("/console/residents", {"residents": "account, name, display\n1,eve,Eve\n2,,\n"})
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [(row["account"], row["name"]) for row in rows] == [("1", "eve"), ("2", "account2")]
    visitor = browser()
    assert accept(visitor, link_in(rows[1]["link"])) == 303
    assert "Account 2" in text_of(visitor.get("/console/home"))


def test_list_has_pages(admin: Browser) -> None:
    lines = "\n".join(f"1,p{n:03d}," for n in range(150))
    admin.post("/console/residents", {"residents": f"account,name,display\n{lines}"})
    page = admin.get("/console/users?role=resident")
    (later,) = re.findall(r'href="(/console/users\?[^"]+)" rel="next"', page.text)
    rest = admin.get(later.replace("&amp;", "&")).text
    assert ("p099" in page.text, "p100" in page.text, "p100" in rest, "p149" in rest) == (True, False, True, True)


def test_audit_log_is_filtered_and_readable(admin: Browser, database: Database) -> None:
    admin.post("/console/users", {"name": "eve", "roles": ["viewer"]})
    admin.post("/console/users/eve/roles", {"roles": ["clerk"], "sure": "true"})
    words = text_of(admin.get("/console/audit?action=person.roles&subject=eve"))
    assert "roles: viewer → clerk" in words
    assert "changed a person's roles eve" in html.unescape(words)
    assert "invited a person eve" not in words
    assert "No entry is found" in text_of(admin.get("/console/audit?person=bob"))
    assert "No entry is found" in text_of(admin.get("/console/audit?until=2027-01-15"))
    assert "invited a person eve" in text_of(admin.get("/console/audit?since=2027-01-15"))
    assert admin.get("/console/audit?since=yesterday").status_code == 422
    with database.writes.begin() as connection:
        actor = Actor(name="ann", roles=frozenset(), account=None, via=Via.SESSION, address="")
        for n in range(100):
            audit_log.record(connection, actor, NOW, "schedule.set", f"r{n:03d}")
    (older,) = re.findall(r'href="(/console/audit\?[^"]+)" rel="next"', admin.get("/console/audit").text)
    assert "invited a person eve" in text_of(admin.get(older.replace("&amp;", "&")))


def test_audit_log_is_a_file_for_spreadsheets_with_the_same_filters(admin: Browser, database: Database) -> None:
    actor = Actor(name="ann", roles=frozenset(), account=None, via=Via.SESSION, address="")
    with database.writes.begin() as connection:
        audit_log.record(connection, actor, NOW, "alarm.silence", "=1+2", None, {"until": NOW, "note": "=cmd()"})
        audit_log.record(connection, actor, NOW, "job.run", "gaps")
    link = re.findall(r'href="(/console/audit/file[^"]*)"', admin.get("/console/audit?action=alarm.").text)[0]
    answer = admin.get(link.replace("&amp;", "&"))
    assert answer.headers["content-type"].startswith("text/csv")
    (row,) = csv.DictReader(io.StringIO(answer.text))
    assert row["what was done"] == "silenced alarms"
    assert row["time"] == "15 Jan 2027 04:23:20", "local time, as on the page"
    assert row["subject"] == "'=1+2", "no cell is a formula"
    assert "until:  → 15 Jan 2027 04:23:20" in row["before and after"]
    assert len(list(csv.reader(io.StringIO(admin.get("/console/audit/file").text)))) == 3


def test_link_is_shown_to_copy_and_as_a_picture_and_what_ends_is_asked_again(admin: Browser) -> None:
    page = admin.post("/console/users", {"name": "eve", "display": "Eve", "roles": ["viewer"]}).text
    assert "data-copy" in page
    assert "opens on this computer alone" in page
    assert "<svg" not in page[page.index("shown once") : page.index("Name at login")], "no phone reaches localhost"
    assert "Reads the town: microgrids, meters, alarms, jobs. Changes nothing." in page, "roles are explained"
    assert "Yes, disable Eve" in page


def test_every_action_of_the_log_has_words() -> None:
    calls = (node for path in Path("utility").rglob("*.py") for node in ast.walk(ast.parse(path.read_text())))
    recorded = {
        word.value
        for call in calls
        if isinstance(call, ast.Call) and ast.unparse(call.func).rpartition(".")[2] in ("record", "_record", "_change")
        for word in ast.walk(call)
        if isinstance(word, ast.Constant) and re.fullmatch(r"[a-z]+\.[a-z_-]+", str(word.value))
    }
    decisions = {*(f"correction.{action}" for action in Review), *(f"ledger.{name}" for name in DECISIONS)}
    assert {*recorded, *decisions, REFUSED, BROKEN} == set(ACTIONS)


def test_message_of_a_success_stands_in_no_address_and_is_shown_once(browser: Browsers) -> None:
    admin = browser(Role.ADMIN)
    browser(Role.CLERK, name="eve")
    done = admin.post("/console/users/eve/sessions")
    assert done.headers["location"] == "/console/users/eve"
    shown = "The sessions of eve ended."
    assert [shown in text_of(admin.get("/console/users/eve")) for _ in range(2)] == [True, False]
    cookie = admin.post("/console/users/eve/sessions").cookies[SAID]
    for planted in (cookie.replace("eve", "all"), cookie[32:], "x"):
        admin.cookies.set(SAID, planted, domain="localhost.local")
        assert 'class="message"' not in admin.get("/console/users").text, "only ours"


def test_one_person_as_clerk_and_approver_is_asked_once_more(browser: Browsers, database: Database) -> None:
    admin = browser(Role.ADMIN)
    browser(Role.CLERK, name="eve")
    both: dict[str, object] = {"roles": ["clerk", "approver"]}
    for path, fields in (("/console/users/eve/roles", both), ("/console/users", both | {"name": "bob"})):
        asked = admin.post(path, fields)
        assert asked.status_code == 422
        assert 'name="sure_both" value="true"' in asked.text
        assert "leaves no second one" in text_of(asked)
        assert admin.post(path, fields | {"sure_both": "true"}).status_code in (200, 303)
    stored = database.read(access.find_person, "eve")
    assert stored is not None
    assert stored.roles == {Role.CLERK, Role.APPROVER}
    assert admin.post("/console/users/eve/roles", both).status_code == 303, "it is so already"


def test_link_that_was_shown_once_is_made_anew_from_an_open_form(browser: Browsers) -> None:
    admin = browser(Role.ADMIN)
    first = admin.post("/console/users", {"name": "bob", "roles": ["viewer"]})
    page = admin.get("/console/users/bob").text
    assert "/console/invitation/" not in page
    assert page.partition('action="/console/users/bob/link"')[0].rpartition("<details")[2].startswith(" open>")
    again = admin.post("/console/users/bob/link")
    assert link_in(first.text) != link_in(again.text)


def invited(database: Database, text: str) -> access.Person | None:
    (secret,) = re.findall(r"http://127\.0\.0\.1:8080/console/invitation/([\w-]+)", text)
    with database.reads.begin() as connection:
        return access.invited(connection, secret, machine_s())


def test_first_administrator_is_invited_by_a_command(command: Callable[..., str], database: Database) -> None:
    told = command("people", "invite", "anna", "--role", "admin", "--role", "operator")
    person = invited(database, told)
    assert person is not None
    assert (person.name, sorted(person.roles)) == ("anna", ["admin", "operator"])
    assert "called anna already" in command("people", "invite", "anna", "--role", "admin", code=2)
    again = command("people", "link", "anna")
    assert invited(database, told) is None, "a new link ends the one before"
    assert invited(database, again) is not None
    command("people", "disable", "anna")
    assert invited(database, again) is None
    with database.reads.begin() as connection:
        assert [(one.name, one.state) for one in access.people(connection)] == [("anna", "disabled")]
        entries = audit_log.entries(connection, audit_log.AuditFilter(subject="anna"), 9)
    assert [(one["person"], one["action"]) for one in reversed(entries)] == [
        (f"{getuser()}@this-machine", f"person.{action}") for action in ("invite", "link", "disable")
    ]


def test_second_factor_of_the_only_administrator_is_removed_by_a_command(
    command: Callable[..., str], database: Database
) -> None:
    command("people", "invite", "anna", "--role", "admin")
    assert "anna: has no second factor" in command("people", "remove-second-factor", "anna", code=2)
    actor, now = Actor(name="anna", roles=frozenset(), account=None, via=Via.SESSION, address=""), machine_s()
    with database.writes.begin() as connection:
        by = By(connection=connection, actor=actor, now=now, machine_s=now)
        seed = second_factors.offer(by)
        assert second_factors.confirm(by, seed, shown(seed, now))
    command("people", "remove-second-factor", "anna")
    with database.reads.begin() as connection:
        assert second_factors.in_force(connection, "anna") is None
        (entry, *_) = audit_log.entries(connection, audit_log.AuditFilter(subject="anna"), 9)
    assert (entry["person"], entry["action"], entry["after"]) == (
        f"{getuser()}@this-machine",
        "person.second-factor",
        '"off"',
    )


def test_a_demonstrations_people_are_invited_once_and_only_in_a_demonstration(
    command: Callable[..., str], database: Database, tmp_path: Path
) -> None:
    assert "is no demonstration" in command("people", "demonstration", code=2)
    with database.reads.begin() as connection:
        assert access.people(connection) == [], "the refused command made no person"
    with (tmp_path / "utility.toml").open("a") as config:
        config.write('clock = "clock.json"\n')
    save_clock(tmp_path / "clock.json", Clock(origin=0, monotonic_origin=0))

    def links() -> dict[str, str]:
        return {one["role"]: one["link"] for one in json.loads(command("people", "demonstration"))}

    found = {role: invited(database, link) for role, link in links().items()}
    assert {role: one and (one.name, one.account) for role, one in found.items()} == {
        "viewer": ("vera", None),
        "operator": ("otto", None),
        "clerk": ("clara", None),
        "approver": ("anton", None),
        "researcher": ("rosa", None),
        "resident": ("rita", 1),
    }
    with database.writes.begin() as connection:
        access.set_password(connection, "clara", "a hash")
    again = links()
    assert again.keys() == found.keys() - {"clerk"}, "the clerk has logged in, and keeps the password"
    assert invited(database, again["viewer"]) is not None
    with database.reads.begin() as connection:
        assert len(access.people(connection)) == 6


STORE_NOW = 1_800_000_000
ADMIN = frozenset({Role.ADMIN})


def added_admin(database: Database, name: str) -> Actor:
    """Add an administrator who can log in."""
    person = access.Person(name=name, display=name, state="active", roles=ADMIN, account=None, created=STORE_NOW)
    with database.writes.begin() as connection:
        access.add_person(connection, person, "test")
        access.set_password(connection, name, "a hash")
    return Actor(name=name, roles=ADMIN, account=None, via=Via.SESSION, address="127.0.0.1")


@databases.on_both_kinds
def test_two_administrators_who_remove_each_other_at_once_leave_one(database: Database) -> None:
    actors, together = {name: added_admin(database, name) for name in ("ann", "bob")}, Barrier(2)

    def remove(name: str, other: str) -> str:
        together.wait()
        try:
            with database.writes.begin() as connection:
                disable(By(connection=connection, actor=actors[name], now=STORE_NOW, machine_s=STORE_NOW), other)
        except AccessFaultError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(2) as threads:
        done = [*threads.map(remove, ("ann", "bob"), ("bob", "ann"))]
    assert min(done) == ""
    assert "the last administrator" in sorted(done)[1]
    with database.reads.begin() as connection:
        assert access.has_admin(connection)
        (entry,) = audit_log.entries(connection, audit_log.AuditFilter(), 9)
    assert entry["action"] == "person.disable"


def test_refused_change_of_many_adds_nobody_and_no_entry(database: Database) -> None:
    actor = added_admin(database, "ann")
    resident = frozenset({Role.RESIDENT})
    new = [NewPerson(name=f"p{n}", roles=resident, account=account) for n, account in enumerate((1, 2, 77))]
    with pytest.raises(AccessFaultError, match="person 3: account: 77"), database.writes.begin() as connection:
        invite_people(By(connection=connection, actor=actor, now=STORE_NOW, machine_s=STORE_NOW), new)
    with database.reads.begin() as connection:
        assert [one.name for one in list_people(connection, "", None, "", 9, STORE_NOW)] == ["ann"]
        assert audit_log.entries(connection, audit_log.AuditFilter(), 9) == []


@databases.on_both_kinds
def test_people_are_found_and_changed(database: Database) -> None:
    actor = added_admin(database, "ann")
    with database.writes.begin() as connection:
        by = By(connection=connection, actor=actor, now=STORE_NOW, machine_s=STORE_NOW)
        eve = NewPerson(name="eve", display="Eve_%", roles=frozenset({Role.RESIDENT}), account=2)
        invite_people(by, [eve, NewPerson(name="bob", roles=frozenset({Role.CLERK}))])
        change_roles(by, "bob", frozenset({Role.CLERK, Role.APPROVER}), None)
        link = new_link(by, "eve")
        disable(by, "eve")
        assert access.invited(connection, link.secret, STORE_NOW) is None
        enable(by, "eve")
    with database.reads.begin() as connection:

        def names(search: str, role: Role | None = None, after: str = "", limit: int = 9) -> list[str]:
            return [one.name for one in list_people(connection, search, role, after, limit, STORE_NOW)]

        assert (names("E"), names("e_%"), names("2"), names("%")) == (["eve"], ["eve"], ["eve"], ["eve"])
        assert (names("", Role.APPROVER), names("", None, "ann", 1), names("x")) == (["bob"], ["bob"], [])


def test_tokens_are_counted_listed_and_revoked(database: Database) -> None:
    actor = added_admin(database, "ann")
    with database.writes.begin() as connection:
        by = By(connection=connection, actor=actor, now=STORE_NOW, machine_s=STORE_NOW)
        for _ in range(MAX_TOKENS):
            make_token(by, "x", ADMIN, 1)
        with pytest.raises(AccessFaultError, match=f"you have {MAX_TOKENS} valid tokens"):
            make_token(by, "x", ADMIN, 1)
        revoke_token(by, tokens(connection, "ann", 1)[0].no)
        text, made = make_token(by, "y", ADMIN, 1)
    with database.reads.begin() as connection:
        found = access.token_actor(connection, text, "", STORE_NOW)
        assert found is not None
        assert (found[0].name, found[0].roles, made.label) == ("ann", ADMIN, "y")
        assert len(tokens(connection, None, 1000)) == MAX_TOKENS + 1


def test_tokens_that_were_revoked_hide_no_valid_ones_from_the_count(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("utility.access.store.access.MAX_TOKENS", 3)
    actor = added_admin(database, "ann")
    with database.writes.begin() as connection:
        by = By(connection=connection, actor=actor, now=STORE_NOW, machine_s=STORE_NOW)
        for _ in range(2):
            make_token(by, "kept", ADMIN, 1)
        for _ in range(10):
            revoke_token(by, make_token(by, "x", ADMIN, 1)[1].no)
        make_token(by, "kept", ADMIN, 1)
        with pytest.raises(AccessFaultError, match="you have 3 valid tokens"):
            make_token(by, "x", ADMIN, 1)


def test_the_link_of_the_first_login_is_in_a_file_of_the_service_and_in_no_log(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = UtilitySettings(tokens=tmp_path / "utility-tokens.json", http="127.0.0.1:8080")
    service = SimpleNamespace(_settings=settings, _api=SimpleNamespace(database=database, machine_s=lambda: STORE_NOW))
    with caplog.at_level(logging.DEBUG):
        UtilityService._invite_first(cast("UtilityService", service), "http")
    path = tmp_path / FIRST_LOGIN
    start, _, secret = path.read_text().strip().rpartition("/")
    assert (start, path.stat().st_mode & 0o777) == ("http://127.0.0.1:8080/console/invitation", 0o600)
    assert (str(path) in caplog.text, secret in caplog.text, len(secret) > 20) == (True, False, True)
