"""Which line carries each meter: balanced, few moved at once, pinned by people, stored with reasons (A1, A2)."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from commonwatt.identity.devices import load_devices
from commonwatt.model.calendar import iso
from commonwatt.model.exceptions import ConfigError
from commonwatt.protocol.controller_commands import ControllerCommand
from commonwatt.town.loading import load_town
from commonwatt.town.town import Town
from harness.commands import shown
from harness.console import Browser
from tests.unit.utility.conftest import NOW
from utility.access.people import Role, on_machine
from utility.access.store.audit_log import AuditFilter, entries
from utility.collection.balance import ENOUGH, IN_USE, Collected, Order, balanced, line_of, loads
from utility.collection.decisions import pin
from utility.collection.jobs import ALIVE_S, STEADY_S, BalanceJob
from utility.collection.store import load_meters
from utility.database.database import Database
from utility.jobs.plans import HERE, Period
from utility.jobs.store import Turn
from utility.outbox.store import SENT_S
from utility.outbox.tables import command
from utility.registry.store.enrolment import enrol
from utility.registry.store.registration import fill_registry
from utility.registry.store.registry import stores_of
from utility.webkit.rights import CSRF_HEADER

NAMES = ("a001", "r001", "r002", "r003", "r004")


def meters_of(home: str, others: Order, count: int, first: int, *, pinned: bool = False) -> list[Collected]:
    order = (home, *others)
    return [
        Collected(meter=first + n, installed=order, choices=order, order=order, pinned=pinned) for n in range(count)
    ]


def after(meters: list[Collected], alive: set[str], most: int) -> list[Collected]:
    moves = balanced(meters, alive, most)
    assert len(moves) <= most
    return [
        Collected(
            meter=one.meter,
            installed=one.installed,
            choices=one.choices,
            order=moves[one.meter].order if one.meter in moves else one.order,
            pinned=one.pinned,
        )
        for one in meters
    ]


def test_apartments_are_spread_over_their_collectors_a_twentieth_an_hour() -> None:
    town = [
        *meters_of("a001", ("r001", "r002", "r003"), 60, 1),
        *(one for n, name in enumerate(NAMES[1:4]) for one in meters_of(name, (), 4, 1000 * (n + 1))),
    ]
    hours = 0
    while (later := after(town, set(NAMES), len(town) // 20)) != town:
        town, hours = later, hours + 1
    assert loads(town, NAMES) == {"a001": 21, "r001": 17, "r002": 17, "r003": 17}
    assert hours == 13, "39 meters, 3 an hour"


def test_a_lost_line_is_shared_by_the_others_and_its_meters_come_home() -> None:
    ring = NAMES[1:4]
    town = [
        one for n, name in enumerate(ring) for one in meters_of(name, (*ring[n + 1 :], *ring[:n]), 20, 1000 * (n + 1))
    ]
    assert balanced(town, ring, 100) == {}
    left = after(town, {"r002", "r003"}, 100)
    assert loads(left, {"r002", "r003"}) == {"r002": 30, "r003": 30}
    assert {line_of(one.order, ring) for one in left if one.meter >= 2000} == {"r002", "r003"}
    home = after(left, set(ring), 100)
    assert loads(home, ring) == dict.fromkeys(ring, 20)
    assert all(line_of(one.order, ring) == one.installed[0] for one in home)


def test_a_pinned_meter_stays_also_on_a_dead_line() -> None:
    town = meters_of("r001", ("r002",), 60, 1, pinned=True)
    assert balanced(town, {"r001", "r002"}, 100) == balanced(town, {"r002"}, 100) == {}


def test_a_neighbourhood_all_dead_waits_and_moves_as_soon_as_a_broker_is_back() -> None:
    town = meters_of("r001", ("r002", "r003", "r004"), 10, 1)
    assert balanced(town, {"a001"}, 100) == {}
    assert loads(after(town, {"r004"}, 100), {"r004"}) == {"r004": 10}, "beyond the first three, by an order"


@st.composite
def towns(draw: st.DrawFn) -> tuple[list[Collected], set[str], int]:
    meters = []
    for number in range(draw(st.integers(1, 60))):
        brokers = tuple(draw(st.permutations(NAMES)))[: draw(st.integers(1, 5))]
        choices = tuple(name for name in brokers if name == brokers[0] or draw(st.booleans()))
        order = tuple(draw(st.permutations(brokers)))
        one = Collected(
            meter=number,
            installed=brokers,
            choices=choices,
            order=order,
            pinned=draw(st.booleans()) and number % 3 == 0,
        )
        meters.append(one)
    return meters, set(draw(st.sets(st.sampled_from(NAMES), min_size=1))), draw(st.integers(0, 90))


@given(towns())
def test_each_move_is_allowed_and_the_fullest_line_gets_no_fuller(town: tuple[list[Collected], set[str], int]) -> None:
    meters, alive, most = town
    by_id = {one.meter: one for one in meters}
    moves = balanced(meters, alive, most)
    for meter, move in moves.items():
        one = by_id[meter]
        assert not one.pinned
        assert move.order[0] in one.choices
        assert move.order[0] in alive
        assert sorted(move.order) == sorted(one.installed)
        assert one.installed[0] in move.order[:IN_USE]
    before, now = (loads(each, alive) for each in (meters, after(meters, alive, most)))
    lost = sum(count for name, count in before.items() if name not in alive)
    assert max(now.get(name, 0) for name in alive) <= max(ENOUGH, *(before.get(n, 0) + lost for n in alive))


@given(towns())
def test_balancing_comes_to_rest(town: tuple[list[Collected], set[str], int]) -> None:
    rest, alive, _ = town
    for _ in range(len(rest) + 2):
        rest = after(rest, alive, 1000)
    assert balanced(rest, alive, 1000) == {}


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
    assert [one["until"] for one in told(database)] == [NOW + 600 + SENT_S, NOW + 70 * 60 + SENT_S]
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
        audited = [(one["action"], one["subject"]) for one in entries(connection, AuditFilter(), 5)]
    assert audited == [("collection.pin", "meter 30005")] * 2


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
