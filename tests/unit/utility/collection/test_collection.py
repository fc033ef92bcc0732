"""Orders of brokers are stored with versions and reasons, told to the manager, and pinned by people (A1)."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from commonwatt.identity.devices import load_devices
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.time.times import iso
from commonwatt.protocol.controller_commands import ControllerCommand
from commonwatt.town.loading import load_town
from commonwatt.town.town import Town
from harness.commands import shown
from harness.console import Browser
from tests.unit.utility.conftest import NOW
from utility.access.actor import on_machine
from utility.access.roles import Role
from utility.access.store.audit_log import Wanted, entries
from utility.collection.decisions import pin
from utility.collection.jobs import ALIVE_S, STEADY_S, BalanceJob
from utility.collection.store import WANTED_S, load_meters
from utility.database.database import Database
from utility.jobs.calendar_periods import Period
from utility.jobs.store.job_leases import Turn
from utility.jobs.threads import HERE
from utility.outbox.tables import command
from utility.registry.store.enrolment import enrol
from utility.registry.store.registration import fill_registry
from utility.registry.store.registry import stores_of
from utility.webkit.rights import CSRF_HEADER

TOWN = """
[[microgrid]]
id = "r"
kind = "residential"
count = 2
houses = 2
[[microgrid]]
id = "a001"
kind = "apartment"
buildings = 1
apartments = 39
[[collectors]]
microgrid = "a001"
controllers = ["r001", "r002"]
"""
HEARD = {"r001": float(NOW), "r002": float(NOW), "a001": float(NOW)}


@pytest.fixture
def town(tmp_path: Path) -> Town:
    path = tmp_path / "town.toml"
    path.write_text(TOWN)
    return load_town(path)


def told(database: Database) -> list[dict[str, Any]]:
    """Return the commands that tell orders, oldest first."""
    with database.reads.begin() as connection:
        rows = connection.execute(select(command.c.message).order_by(command.c.created, command.c.id)).scalars()
        found = [json.loads(row) for row in rows]
    for one in found:
        ControllerCommand.model_validate(one)
    return [one for one in found if one["cmd"] == "assign"]


def job_of(database: Database, heard: dict[str, float]) -> BalanceJob:
    return BalanceJob(database, HERE, heard, is_trusted=lambda: True)


def run(job: BalanceJob, now: int) -> None:
    asyncio.run(job.run(Turn(job="balance", period=Period(start=now, end=now, name="now"), attempt=1, now=now)))


def test_meters_move_a_twentieth_an_hour_once_the_lines_are_known_and_the_manager_is_told(database: Database) -> None:
    heard = dict(HEARD)
    job = job_of(database, heard)
    for minute in range(125):
        now = NOW + 60 * minute
        heard.update(dict.fromkeys(heard, float(now)))
        run(job, now)
        moved = {0: 0, 9: 0, 10: 2, 69: 2, 70: 4, 124: 4}.get(minute)
        if moved is not None:
            assert sum(len(meters) for one in told(database)[-1:] for _, meters in one["orders"]) == moved
    assert [one["until"] for one in told(database)] == [NOW + 600 + WANTED_S, NOW + 70 * 60 + WANTED_S]
    assert told(database)[0]["orders"] == [[["r002", "r001", "a001"], ["30001"]], [["r001", "r002", "a001"], ["30002"]]]


def test_a_line_counts_as_lost_or_back_only_after_ten_minutes(database: Database) -> None:
    heard = dict(HEARD)
    job = job_of(database, heard)
    assert job.alive(NOW) == set(HEARD)
    heard.update(r001=float(NOW + 60), a001=float(NOW + 60))
    assert job.alive(NOW + ALIVE_S + 1) == set(HEARD), "its meters move by themselves"
    later = NOW + ALIVE_S + 1 + STEADY_S
    heard.update(r001=float(later), a001=float(later))
    assert job.alive(later) == {"r001", "a001"}
    heard["r002"] = float(later)
    assert job.alive(later) == {"r001", "a001"}, "it just came back"
    heard.update(dict.fromkeys(heard, float(later + STEADY_S)))
    assert job.alive(later + STEADY_S) == set(HEARD)
    del heard["r002"]
    assert job.alive(later + STEADY_S) == {"r001", "a001"}, "its meters were all removed: nobody waits for it"


def test_a_pin_wins_over_balance_is_told_at_once_and_ends_with_its_release(database: Database) -> None:
    actor = on_machine("ann")
    pin(database, actor, 30005, ["r002"], "the cellar has no reception", NOW)
    assert told(database)[-1]["orders"] == [[["r002", "a001", "r001"], ["30005"]]]
    heard = {"r001": float(NOW), "a001": float(NOW), "r002": 0.0}
    job = job_of(database, heard)
    for at in (NOW, NOW + STEADY_S):
        heard.update(r001=float(at), a001=float(at))
        run(job, at)
    with database.reads.begin() as connection:
        pinned = [one.collected for one in load_meters(connection) if one.collected.pinned]
    assert [(one.meter, one.order[0]) for one in pinned] == [(30005, "r002")], "also while that controller is dead"
    pin(database, actor, 30005, [], "", NOW + STEADY_S + 1)
    with database.reads.begin() as connection:
        assert not any(one.collected.pinned for one in load_meters(connection))
        audited = [(one["action"], one["subject"]) for one in entries(connection, Wanted(), 5)]
    assert audited == [("collection.pin", "meter 30005")] * 2


def test_a_manager_that_did_not_answer_in_a_day_is_told_again_and_one_that_refused_is_not(database: Database) -> None:
    pin(database, on_machine("ann"), 30005, ["r002"], "", NOW)
    job = job_of(database, dict.fromkeys(HEARD, float(NOW + STEADY_S)))
    run(job, NOW)
    run(job, NOW + STEADY_S)
    assert len([one for one in told(database) if any("30005" in meters for _, meters in one["orders"])]) >= 1
    count = len(told(database))
    with database.writes.begin() as connection:
        connection.execute(command.update().values(state="done", result="unsupported"))
    run(job, NOW + STEADY_S + 60)
    assert len(told(database)) == count
    with database.writes.begin() as connection:
        connection.execute(command.update().values(state="expired"))
    run(job, NOW + STEADY_S + 120)
    assert len(told(database)) == count + 1


def test_the_api_explains_a_meter_and_pins_it(database: Database, browser: Callable[..., Browser]) -> None:
    operator = browser(Role.OPERATOR)
    found = operator.get("/assignments/meters/30001").json()
    assert (found["installed"], found["why"], found["history"]) == (["a001", "r002", "r001"], "as installed", [])
    path, secret = "/assignments/meters/30001", {CSRF_HEADER: operator.csrf}
    pinned = operator.send("POST", path, json={"brokers": ["r001"], "why": "a test"}, headers=secret)
    assert pinned.status_code == 200, pinned.text
    assert (pinned.json()["order"], pinned.json()["pinned"]) == (["r001", "a001", "r002"], True)
    assert pinned.json()["why"].endswith(": a test")
    assert pinned.json()["history"][0]["since"] == iso(NOW)
    for brokers, code, text in (
        (["r009"], 422, "meter 30001 has no broker of r009; it has a001, r002, r001"),
        (["r001", "r001"], 422, "a broker is named twice"),
    ):
        refused = operator.send("POST", path, json={"brokers": brokers}, headers=secret)
        assert (refused.status_code, refused.json()["detail"]) == (code, text)
    assert operator.get("/assignments/meters/5").status_code == 404
    assert operator.get("/assignments/meters/x").status_code == 404
    viewer = browser(Role.VIEWER)
    assert viewer.send("POST", path, json={"brokers": []}, headers={CSRF_HEADER: viewer.csrf}).status_code == 403
    del database


def test_the_command_explains_a_meter(database: Database, tmp_path: Path) -> None:
    pin(database, on_machine("ann"), 30001, ["r002"], "a test", NOW)
    config = tmp_path / "utility.toml"
    config.write_text(f'[utility]\ndatabase = "{database.reads.url}"\n')
    found = shown(config, "assignments/meters/30001")
    assert (found["microgrid"], found["collector"], found["why"]) == ("a001", "r002", "pinned by ann: a test")
    assert found["order"] == ["r002", "a001", "r001"]


def test_collectors_know_the_meters_and_may_relay_their_data(database: Database, town: Town, tmp_path: Path) -> None:
    out = tmp_path / "out"
    enrol(town, out)
    devices = load_devices(out / "r001" / "devices.json")
    assert "a001" in devices["r001"].serves
    assert "30001" in devices
    assert (out / "r002" / "registry-a001.json").exists()
    with database.reads.begin() as connection:
        assert stores_of(connection)["a001"] >= {"r001", "r002"}
    (tmp_path / "town.toml").write_text(TOWN.replace('"r001", "r002"]', '"r002"]'))
    with database.writes.begin() as connection:
        assert fill_registry(connection, load_town(tmp_path / "town.toml")).changed == 2
        assert stores_of(connection)["a001"] >= {"r001"}, "it may still have data"
        assert load_meters(connection)[0].collected.installed == ("a001", "r002")


@pytest.mark.parametrize(
    ("names", "fault"),
    [
        ('"r009"', r"\[\[collectors\]\] names r009, which is not in this file"),
        ('"r001", "r001"', "names a controller or a microgrid twice"),
        ('"a001"', "names a controller or a microgrid twice"),
    ],
)
def test_wrong_collectors_are_refused(names: str, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "town.toml"
    path.write_text(TOWN.replace('"r001", "r002"]', f"{names}]"))
    with pytest.raises(ConfigError, match=fault):
        load_town(path)
