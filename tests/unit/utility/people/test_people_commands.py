"""`commonwatt utility people`: a machine without a browser gets its first administrator, and people are disabled."""

import json
import re
from collections.abc import Callable
from getpass import getuser
from pathlib import Path

from commonwatt.runtime.clock import Clock, machine_s, save_clock
from harness.authenticator import shown
from utility.access.actor import Actor, Via
from utility.access.store import access, audit_log, second_factors
from utility.access.store.acting import By
from utility.database.database import Database


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
        entries = audit_log.entries(connection, audit_log.Wanted(subject="anna"), 9)
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
        (entry, *_) = audit_log.entries(connection, audit_log.Wanted(subject="anna"), 9)
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
