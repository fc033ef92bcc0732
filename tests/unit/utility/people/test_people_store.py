"""People and tokens on every database: two administrators can't remove each other, and nothing is half changed."""

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace
from typing import cast

import pytest

from commonwatt.config.utility import FIRST_LOGIN, UtilitySettings
from harness.real import databases
from utility.access.actor import Actor, Via
from utility.access.roles import Role
from utility.access.rules import AccessFaultError, NewPerson
from utility.access.store import access, audit_log
from utility.access.store.acting import By
from utility.access.store.api_tokens import MAX_TOKENS, make_token, revoke_token, tokens
from utility.assembly.service import Service
from utility.database.database import Database
from utility.people.store import change_roles, disable, enable, invite_people, list_people, new_link

NOW = 1_800_000_000
ADMIN = frozenset({Role.ADMIN})


def admin(database: Database, name: str) -> Actor:
    """Add an administrator who can log in."""
    person = access.Person(name=name, display=name, state="active", roles=ADMIN, account=None, created=NOW)
    with database.writes.begin() as connection:
        access.add_person(connection, person, "test")
        access.set_password(connection, name, "a hash")
    return Actor(name=name, roles=ADMIN, account=None, via=Via.SESSION, address="127.0.0.1")


@databases.on_both_kinds
def test_two_administrators_who_remove_each_other_at_once_leave_one(database: Database) -> None:
    actors, together = {name: admin(database, name) for name in ("ann", "bob")}, Barrier(2)

    def remove(name: str, other: str) -> str:
        together.wait()
        try:
            with database.writes.begin() as connection:
                disable(By(connection=connection, actor=actors[name], now=NOW, machine_s=NOW), other)
        except AccessFaultError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(2) as threads:
        done = [*threads.map(remove, ("ann", "bob"), ("bob", "ann"))]
    assert min(done) == ""
    assert "the last administrator" in sorted(done)[1]
    with database.reads.begin() as connection:
        assert access.has_admin(connection)
        (entry,) = audit_log.entries(connection, audit_log.Wanted(), 9)
    assert entry["action"] == "person.disable"


def test_refused_change_of_many_adds_nobody_and_no_entry(database: Database) -> None:
    actor = admin(database, "ann")
    resident = frozenset({Role.RESIDENT})
    new = [NewPerson(name=f"p{n}", roles=resident, account=account) for n, account in enumerate((1, 2, 77))]
    with pytest.raises(AccessFaultError, match="person 3: account: 77"), database.writes.begin() as connection:
        invite_people(By(connection=connection, actor=actor, now=NOW, machine_s=NOW), new)
    with database.reads.begin() as connection:
        assert [one.person.name for one in list_people(connection, "", None, "", 9, NOW)] == ["ann"]
        assert audit_log.entries(connection, audit_log.Wanted(), 9) == []


@databases.on_both_kinds
def test_people_are_found_and_changed(database: Database) -> None:
    actor = admin(database, "ann")
    with database.writes.begin() as connection:
        by = By(connection=connection, actor=actor, now=NOW, machine_s=NOW)
        eve = NewPerson(name="eve", display="Eve_%", roles=frozenset({Role.RESIDENT}), account=2)
        invite_people(by, [eve, NewPerson(name="bob", roles=frozenset({Role.CLERK}))])
        change_roles(by, "bob", frozenset({Role.CLERK, Role.APPROVER}), None)
        link = new_link(by, "eve")
        disable(by, "eve")
        assert access.invited(connection, link.secret, NOW) is None
        enable(by, "eve")
    with database.reads.begin() as connection:

        def names(search: str, role: Role | None = None, after: str = "", limit: int = 9) -> list[str]:
            return [one.person.name for one in list_people(connection, search, role, after, limit, NOW)]

        assert (names("E"), names("e_%"), names("2"), names("%")) == (["eve"], ["eve"], ["eve"], ["eve"])
        assert (names("", Role.APPROVER), names("", None, "ann", 1), names("x")) == (["bob"], ["bob"], [])


def test_tokens_are_counted_listed_and_revoked(database: Database) -> None:
    actor = admin(database, "ann")
    with database.writes.begin() as connection:
        by = By(connection=connection, actor=actor, now=NOW, machine_s=NOW)
        for _ in range(MAX_TOKENS):
            make_token(by, "x", ADMIN, 1)
        with pytest.raises(AccessFaultError, match=f"you have {MAX_TOKENS} valid tokens"):
            make_token(by, "x", ADMIN, 1)
        revoke_token(by, tokens(connection, "ann", 1)[0].no)
        text, made = make_token(by, "y", ADMIN, 1)
    with database.reads.begin() as connection:
        found = access.token_actor(connection, text, "", NOW)
        assert found is not None
        assert (found[0].name, found[0].roles, made.label) == ("ann", ADMIN, "y")
        assert len(tokens(connection, None, 1000)) == MAX_TOKENS + 1


def test_tokens_that_were_revoked_hide_no_valid_ones_from_the_count(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("utility.access.store.api_tokens.MAX_TOKENS", 3)
    actor = admin(database, "ann")
    with database.writes.begin() as connection:
        by = By(connection=connection, actor=actor, now=NOW, machine_s=NOW)
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
    service = SimpleNamespace(_settings=settings, _api=SimpleNamespace(database=database, machine_s=lambda: NOW))
    with caplog.at_level(logging.DEBUG):
        Service._invite_first(cast("Service", service), "http")
    path = tmp_path / FIRST_LOGIN
    start, _, secret = path.read_text().strip().rpartition("/")
    assert (start, path.stat().st_mode & 0o777) == ("http://127.0.0.1:8080/console/invitation", 0o600)
    assert (str(path) in caplog.text, secret in caplog.text, len(secret) > 20) == (True, False, True)
