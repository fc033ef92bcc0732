"""Commands that decide log in, with a real service: password and code at the prompt; without it the glass is broken."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from commonwatt.runtime.clock import machine_s
from harness.commands import token_for
from harness.console import PASSWORD, shown, wrong
from harness.real.site import Site
from utility.access.people import on_machine
from utility.access.secrets import digest
from utility.access.store import access, audit_log
from utility.access.store.audit_log import By
from utility.access.store.second_factors import confirm, offer
from utility.alarms import store as alarms
from utility.database.database import Database, open_database

TOWN = 'microgrid = [{id = "r", kind = "residential", count = 1, houses = 2}]\n'
TARIFF = Path(__file__).parents[2] / "docs/examples/tariff.toml"
Run = Callable[..., str]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path / "site", TOWN) as made:
        made.start("utility")
        yield made


@pytest.fixture
def database(site: Site) -> Iterator[Database]:
    opened = open_database(f"sqlite:///{site.layout.part('utility').config.parent}/utility.db", create=False)
    yield opened
    opened.close()


@pytest.fixture
def secret(database: Database) -> str:
    """Anna, clerk and approver, with a second factor; its secret."""
    now = machine_s() - 60
    token_for(database, "anna", now)
    with database.writes.begin() as connection:
        by = By(connection=connection, actor=on_machine("anna"), now=now, machine_s=now)
        seed = offer(by)
        assert confirm(by, seed, shown(seed, now))
    return seed


@pytest.fixture
def run(site: Site, tmp_path: Path) -> Run:
    """Run a command of a user whose folder is empty; it must exit with ``code``; return its output."""
    (tmp_path / "home").mkdir()
    config = str(site.layout.part("utility").config)

    def run_it(*words: str, typed: str = "", code: int = 0) -> str:
        command = [sys.executable, "-m", "commonwatt", *words]
        command[5:5] = ["--config", config] if "break-glass" in words else []
        command += [] if "break-glass" in words else ["--config", config]
        home = os.environ | {"HOME": str(tmp_path / "home")}
        done = subprocess.run(command, input=typed, env=home, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run_it


def test_commands_decide_as_the_person_who_typed_password_and_code(
    site: Site, database: Database, secret: str, run: Run, tmp_path: Path
) -> None:
    assert "no tariffs" in run("show", "tariffs"), "on its machine the service's token file will do to read"
    tokens = site.layout.part("utility").config.parent / "utility-tokens.json"
    tokens.rename(tokens.with_suffix(".away"))
    assert "nobody is logged in here; log in with: commonwatt login" in run("show", "tariffs", code=2)
    tokens.with_suffix(".away").rename(tokens)
    assert "nobody is logged in here; log in with: commonwatt login" in run("tariff", "propose", str(TARIFF), code=2)
    for typed in ("a wrong password\n", f"{PASSWORD}\n{wrong(secret, machine_s())}\n"):
        assert "is wrong" in run("login", "--name", "anna", typed=typed, code=2)
    file = tmp_path / "home/.config/commonwatt/login.json"
    assert not file.exists()
    assert "logged in as anna for 12 hours" in run(
        "login", "--name", "anna", typed=f"{PASSWORD}\n{shown(secret, machine_s())}\n"
    )
    assert (stat.S_IMODE(file.stat().st_mode), PASSWORD in file.read_text()) == (0o600, False)
    assert "proposed by anna" in run("tariff", "propose", str(TARIFF))
    assert "anna proposed it; a second person" in run("do", "tariffs/town/1/approve", code=2)
    with database.reads.begin() as connection:
        (entry,) = audit_log.entries(connection, audit_log.AuditFilter(action="tariff."), 9)
        token = access.tokens(connection, "anna", 1)[0]
        stored = connection.exec_driver_sql("SELECT digest FROM api_token WHERE no = ?", (token.no,)).scalar()
    assert (entry["via"], entry["token"]) == ("token", token.no), "it is listed with the login"
    assert ("commonwatt login at" in token.label, sorted(token.roles)) == (True, ["approver", "clerk"])
    assert token.until - token.made == 12 * 3600
    assert digest(json.loads(file.read_text())["token"]) == stored
    with database.writes.begin() as connection:
        connection.exec_driver_sql("UPDATE api_token SET revoked = 1")
    assert "log in with: commonwatt login" in run("tariff", "propose", str(TARIFF), code=2)
    assert "proposed" in run("show", "tariffs")


def test_without_the_service_the_glass_is_broken_which_is_an_alarm_and_no_second_person(
    site: Site, database: Database, secret: str, run: Run
) -> None:
    glass = ("utility", "break-glass", "--why", "the disk broke")
    assert "the service runs" in run(*glass, "tariff", "propose", str(TARIFF), code=2)
    run("login", "--name", "anna", typed=f"{PASSWORD}\n{shown(secret, machine_s())}\n")
    site.stop("utility")
    assert "commonwatt utility break-glass" in run("tariff", "propose", str(TARIFF), code=1)
    assert "Missing" in run("utility", "break-glass", "--why", "x", code=2)
    assert "--why" in run("utility", "break-glass", "--why", " ", "tariff", "propose", str(TARIFF), code=2)
    assert "@this-machine" in run(*glass, "tariff", "propose", str(TARIFF))
    assert "needs the role approver" in run(*glass, "do", "tariffs/town/1/approve", code=2)
    with database.reads.begin() as connection:
        broken = alarms.counted(connection, 0).broken
        entries = audit_log.entries(connection, audit_log.AuditFilter(action="machine."), 9)
    assert ["tariff propose" in broken[0], "do tariffs/town/1/approve" in broken[1]] == [True, True]
    assert {one["after"] for one in entries} == {'"the disk broke"'}
    site.start("utility")
    assert "is no person who logs in; a person has to do that again" in run("do", "tariffs/town/1/approve", code=2)
