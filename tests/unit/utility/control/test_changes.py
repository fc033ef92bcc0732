"""Changes of gateways: for one or all, now or planned, put back, refused after newer ones; announced storms."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from commonwatt.protocol.controller_commands import Action, ControllerOutcome
from commonwatt.protocol.heartbeats import Heartbeat
from commonwatt.protocol.json_messages import unpack_json
from harness.commands import shown
from harness.surroundings import databases
from harness.surroundings.gateway import World
from utility.access.people import Actor, Role, Via
from utility.access.store import audit_log
from utility.control import decisions as storms
from utility.control.changes import AskedChange, ChangeError, ChangeTarget, ControlChange, NewerChangeError
from utility.control.commands import FieldsError, answered, before_words, checked_command, in_force, inverse
from utility.control.decisions import (
    announce_storm,
    cancel_change,
    make_change,
    preview_change,
    put_back,
    send_due,
)
from utility.control.store import find_change, newest_changes, targets_of
from utility.database.database import Database, open_database
from utility.outbox.changes import CloseCommand, SawGateway, settings_of
from utility.outbox.store import open_commands
from utility.readings.store.writer import Writer
from utility.supply.buying import Storm
from utility.supply.store import announced_storm

NOW = 1_800_000_000
ALL, R001 = {"everyone": True}, {"microgrids": ("r001",)}


def person(name: str) -> Actor:
    return Actor(name=name, roles=frozenset({Role.OPERATOR}), account=None, via=Via.SESSION, address="10.0.0.7")


ANNA, BEN = person("anna"), person("ben")


def heartbeat(**fields: Any) -> Heartbeat:
    periods = {"collect_s": 60, "levels_s": 60, "relay_s": 60, "put_s": 60, "compact_s": 900}
    usual = {"periods": periods, "strategy": "spec", "meters": "none", "aggregation": "none"}
    counts = {"time": NOW, "store": 7, "backlog_parts": 0, "backlog_events": 0, "backlog_letters": 0}
    return Heartbeat.model_validate(counts | usual | fields)


def hear(database: Database, microgrid: str = "r001", **fields: Any) -> None:
    Writer(database).commit([SawGateway(controller=microgrid, time=NOW, heartbeat=heartbeat(**fields))])


def ask(
    action: Action, chosen: dict[str, Any] = R001, at: int | None = None, seen: int | None = None, **fields: Any
) -> AskedChange:
    return AskedChange(action=action, fields=fields, **chosen, at=at, seen=seen)


def tune(
    seconds: int | None, chosen: dict[str, Any] = R001, at: int | None = None, seen: int | None = None
) -> AskedChange:
    return ask(Action.SCHEDULE, chosen, at, seen, periods={"relay_s": seconds})


def waiting(database: Database) -> dict[str, list[str]]:
    """Return the content of the open commands, without ids and ends, by controller."""
    found: dict[str, list[str]] = {}
    with database.reads.begin() as connection:
        for each in open_commands(connection):
            message = json.loads(each.message)
            shown = {key: value for key, value in message.items() if key not in ("v", "id", "until")}
            found.setdefault(each.controller, []).append(str(shown))
    return found


def test_the_answer_to_system_info_is_told_in_words(tmp_path: Path) -> None:  # req: A4
    world = World(tmp_path / "gateway.db")
    world.ask(cmd="reduce", state="on", for_s=600)
    _, outcome = world.ask(cmd="system_info")
    words = answered(json.loads(outcome.pack()))
    assert words.startswith("done; version ")
    assert "; manages r001, epoch 1 of rank 0; reduce until " in words


def answer(database: Database, result: str = "done", microgrid: str | None = None) -> None:
    """Let gateways answer their open commands."""
    with database.reads.begin() as connection:
        asked = [each for each in open_commands(connection) if microgrid in (None, each.controller)]
    for each in asked:
        told = ControllerOutcome(id=each.id, cmd="schedule", result=result, time=NOW)
        closing = CloseCommand(id=each.id, controller=each.controller, state="done", outcome=told.pack().decode())
        Writer(database).commit([closing])


def seen(database: Database, number: int) -> tuple[ControlChange, list[ChangeTarget]]:
    with database.reads.begin() as connection:
        return find_change(connection, number), targets_of(connection, number, 10)


@databases.on_both_kinds
def test_a_change_is_kept_with_what_was_before_and_each_gateways_answer(database: Database) -> None:
    hear(database)
    number = make_change(database, ANNA, tune(900, ALL), NOW)
    relays = "{'cmd': 'schedule', 'at': 'gateway', 'mode': 'lossless', 'periods': {'relay_s': 900}}"
    assert waiting(database) == {"r001": [relays], "r002": [relays]}
    answer(database, microgrid="r001")
    answer(database, "unsupported", microgrid="r002")
    change, (first, second) = seen(database, number)
    assert (change.person, change.what, dict(change.counts)) == (
        "anna",
        "schedule relay 900 s",
        {"done": 1, "refused": 1},
    )
    assert (first.state, before_words(first.before)) == ("done", "relay 60 s (as installed)")
    assert (second.state, before_words(second.before)) == ("refused", "relay: not known")
    with database.reads.begin() as connection:
        (entry,) = audit_log.entries(connection, audit_log.AuditFilter(), 9)
    assert (entry["person"], entry["action"], entry["subject"]) == ("anna", "command.send", f"change {number}")


def test_a_change_is_put_back_where_it_was_done(database: Database) -> None:
    tuned = {"collect_s": 60, "levels_s": 60, "relay_s": 300, "compact_s": 900}
    hear(database)
    hear(database, "r002", periods=tuned, tuned=("relay_s",))
    number = make_change(database, ANNA, tune(900, ALL), NOW)
    answer(database)
    back = put_back(database, BEN, number, NOW)
    assert ["'relay_s': None" in waiting(database)["r001"][0], "'relay_s': 300" in waiting(database)["r002"][0]] == [
        True,
        True,
    ]
    assert (seen(database, back)[0].what, seen(database, back)[0].undoes) == ("put back change 1", number)
    with pytest.raises(NewerChangeError, match="ben changed relay"):
        put_back(database, ANNA, number, NOW)


def test_a_plan_that_was_cancelled_or_missed_does_not_keep_a_change_from_being_put_back(database: Database) -> None:
    hear(database)
    first = make_change(database, ANNA, tune(900), NOW)
    answer(database)
    missed = make_change(database, BEN, tune(600, at=NOW + 60), NOW)
    send_due(database, NOW + 90_000)
    cancelled = make_change(database, BEN, tune(300, at=NOW + 100_000), NOW + 90_000)
    with pytest.raises(NewerChangeError, match=f"change {cancelled}: "):
        put_back(database, ANNA, first, NOW + 90_000)
    cancel_change(database, BEN, cancelled, NOW + 90_000)
    assert [seen(database, number)[0].state for number in (missed, cancelled)] == ["missed", "cancelled"]
    assert seen(database, put_back(database, ANNA, first, NOW + 90_000))[0].undoes == first


def test_a_cancelled_plan_leaves_the_change_before_it_the_newest(database: Database) -> None:
    hear(database)
    first = make_change(database, ANNA, tune(900), NOW)
    answer(database)
    second = make_change(database, BEN, tune(600, ALL), NOW)
    reduced = make_change(database, BEN, ask(Action.REDUCE, state="off"), NOW)
    planned = make_change(database, BEN, tune(300, ALL, at=NOW + 600), NOW)
    cancel_change(database, BEN, planned, NOW)
    with pytest.raises(NewerChangeError, match=f"change {second}: "):
        put_back(database, ANNA, first, NOW)
    with pytest.raises(NewerChangeError, match=f"change {reduced}: "):
        make_change(database, ANNA, ask(Action.REDUCE, seen=second, state="off"), NOW)


def test_what_no_gateway_has_done_can_not_be_put_back(database: Database) -> None:
    number = make_change(database, ANNA, tune(900), NOW)
    with pytest.raises(ChangeError, match="no gateway carried it out, or what was in force before is not known"):
        put_back(database, ANNA, number, NOW)
    with pytest.raises(ChangeError, match="there is no change 9"):
        put_back(database, ANNA, 9, NOW)


def test_the_second_of_two_people_is_told_and_changes_nothing(database: Database) -> None:
    make_change(database, ANNA, tune(900), NOW)
    form = 1
    make_change(database, ANNA, tune(600, seen=form), NOW + 60)
    with pytest.raises(NewerChangeError, match=r"r001: anna changed relay at .* \(change 2: schedule relay 600 s, 1 "):
        make_change(database, BEN, tune(300, ALL, seen=form), NOW + 90)
    assert list(waiting(database)) == ["r001"]
    with database.reads.begin() as connection:
        assert [change.no for change in newest_changes(connection, 9)] == [2, 1]
    assert make_change(database, BEN, ask(Action.REDUCE, ALL, seen=form, state="off"), NOW + 90) == 3, "another setting"


@databases.on_both_kinds
def test_of_two_people_at_the_same_moment_one_is_told(database: Database) -> None:
    def change(actor: Actor) -> bool:
        try:
            make_change(database, actor, tune(900, ALL, seen=0), NOW)
        except NewerChangeError:
            return False
        return True

    with ThreadPoolExecutor(2) as threads:
        assert sorted(threads.map(change, (ANNA, BEN))) == [False, True]
    assert [len(found) for found in waiting(database).values()] == [1, 1]


@databases.on_both_kinds
def test_a_change_that_fails_in_the_middle_leaves_nothing(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the utility is killed while it stores a change: nothing of it is stored, and nothing is sent."""

    def die(*_: object) -> None:
        raise OSError("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr("utility.control.store.end_change", die)
        with pytest.raises(OSError, match="the disk is gone"):
            make_change(database, ANNA, tune(900, ALL), NOW)
    assert waiting(database) == {}
    with database.reads.begin() as connection:
        assert newest_changes(connection, 9) == []
        assert audit_log.entries(connection, audit_log.AuditFilter(), 9) == []


@databases.on_both_kinds
def test_a_planned_change_is_sent_once_when_due_and_not_when_cancelled_or_long_over(database: Database) -> None:
    planned = make_change(database, ANNA, tune(900, at=NOW + 600), NOW)
    cancelled = make_change(database, ANNA, tune(300, {"microgrids": ("r002",)}, at=NOW + 600), NOW)
    missed = make_change(database, ANNA, ask(Action.ISOLATE, at=NOW - 3500, state="on", for_s=60), NOW - 4000)
    cancel_change(database, BEN, cancelled, NOW + 1)
    send_due(database, NOW + 599)
    assert waiting(database) == {}
    send_due(database, NOW + 600)
    send_due(database, NOW + 700)
    assert [len(found) for found in waiting(database).values()] == [1]
    states = [seen(database, number)[0].state for number in (planned, cancelled, missed)]
    assert states == ["sent", "cancelled", "missed"]
    with pytest.raises(ChangeError, match="change 1 is not planned any more: it is sent"):
        cancel_change(database, BEN, planned, NOW)
    with pytest.raises(ChangeError, match="is over"):
        make_change(database, ANNA, tune(900, at=NOW - 4000), NOW)


@pytest.mark.parametrize(
    ("chosen", "says"),
    [
        ({}, "choose microgrids, a kind of microgrids, or all"),
        ({"microgrids": ("r001", "r009")}, "microgrid r009 is not registered; there are r001, r002"),
        ({"kind": "apartment"}, "no microgrid is of the kind apartment; there are residential"),
    ],
)
def test_microgrids_that_are_not_there_are_refused(database: Database, chosen: dict[str, Any], says: str) -> None:
    with pytest.raises(ChangeError, match=says):
        make_change(database, ANNA, tune(900, chosen), NOW)
    assert waiting(database) == {}


def test_a_kind_of_microgrids_is_chosen(database: Database) -> None:
    make_change(database, ANNA, tune(900, {"kind": "residential"}), NOW)
    assert sorted(waiting(database)) == ["r001", "r002"]


def test_an_unanswered_strategy_is_superseded_by_the_next_one_but_not_by_one_of_a_later_date(
    database: Database,
) -> None:
    """Sent again after the newer one, the older one would undo it."""
    first = make_change(database, ANNA, ask(Action.SHARING, strategy="aces"), NOW)
    make_change(database, ANNA, ask(Action.SHARING, strategy="rangers", from_time=NOW + 900), NOW)
    assert dict(seen(database, first)[0].counts) == {"open": 1}
    make_change(database, ANNA, ask(Action.SHARING, strategy="spec"), NOW)
    assert [one.partition("'strategy': ")[2][:6] for one in waiting(database)["r001"]] == ["'spec'"]
    assert dict(seen(database, first)[0].counts) == {"superseded": 1}


def test_a_meter_of_the_chosen_microgrid_is_stopped_and_no_other(database: Database) -> None:  # req: M5
    for meter, says in (("99999", "meter: 99999 is not registered"), ("20001", "meter: 20001 is a meter of r002")):
        with pytest.raises(FieldsError, match=says):
            make_change(database, ANNA, ask(Action.STOP, meter=meter, state="on"), NOW)
    hear(database)
    number = make_change(database, ANNA, ask(Action.STOP, meter="10001", state="on"), NOW)
    (sent,) = waiting(database)["r001"]
    assert ("'meter': '10001'" in sent, "'state': 'on'" in sent) == (True, True), sent
    answer(database)
    with pytest.raises(ChangeError, match="is not known"):
        put_back(database, ANNA, number, NOW)
    preview = preview_change(database, ask(Action.STOP, meter="10001", state="off"), NOW)
    assert "The meter measures." in str(preview)


FAULTS: dict[str, tuple[Action, dict[str, Any], str]] = {
    "missing": (Action.REDUCE, {"state": "on"}, "reduce needs FOR_S"),
    "foreign": (Action.DEAGGREGATE, {"mode": "lossy"}, "deaggregate does not take MODE"),
    "empty schedule": (Action.SCHEDULE, {"periods": {}}, "give at least one of METERS, PERIODS"),
    "no sharing": (Action.SHARING, {"from_time": 5}, "sharing needs STRATEGY"),
    "too short": (Action.SCHEDULE, {"periods": {"relay_s": 1}}, "PERIODS: must be at least 15"),
    "too long": (
        Action.STOP,
        {"meter": "1" * 17_000, "state": "on"},
        "METER: must",
    ),
    "the registry's": (Action.SHARING, {"strategy": "spec", "weights": {"1": 2}}, "sharing does not take WEIGHTS"),
    "no quarter": (Action.GET, {"first_quarter": "x", "last_quarter": 1}, "FIRST_QUARTER: must be a whole number"),
    "null": (Action.GET, {"first_quarter": None, "last_quarter": 1}, "get needs FIRST_QUARTER"),
    "backwards": (Action.GET, {"first_quarter": 2, "last_quarter": 1}, "FIRST_QUARTER must not be after the last"),
    "braces": (Action.SHARING, {"strategy": "{x}"}, r"STRATEGY: .*'\{x\}'"),
    "the service's": (Action.RATES, {}, "only the service sends this command"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_wrong_field_is_named(name: str) -> None:
    action, fields, says = FAULTS[name]
    with pytest.raises(FieldsError) as caught:
        checked_command(action, fields, NOW, "x")
    assert re.search(says, caught.value.named(str.upper))


COMMANDS: dict[str, dict[str, Any]] = {
    "period": {"cmd": "schedule", "periods": {"relay_s": 900, "collect_s": None}},
    "meters": {"cmd": "schedule", "periods": {}, "meters": "lossless"},
    "strategy": {"cmd": "sharing", "strategy": "rangers"},
    "aggregation": {"cmd": "aggregate", "mode": "lossy", "for_s": 300},
    "no aggregation": {"cmd": "deaggregate"},
    "reduced": {"cmd": "reduce", "state": "on", "for_s": 100},
    "not reduced": {"cmd": "reduce", "state": "off"},
    "island": {"cmd": "isolate", "state": "on", "for_s": 100},
}


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("tuned", [False, True], ids=["by its file", "tuned"])
def test_what_puts_a_command_back_restores_what_the_gateway_said(tmp_path: Path, name: str, tuned: bool) -> None:
    """A gateway carries out the command, and what puts it back: it says what it said before."""
    world = World(tmp_path / "gateway.db")

    def said() -> Heartbeat:
        (payload,) = (message.payload for message in world.tick("heartbeat") if message.topic.endswith("/stat"))
        return unpack_json(Heartbeat, payload)

    if tuned:
        world.ask(cmd="schedule", periods={"relay_s": 30, "collect_s": 120}, meters="lossless")
        world.ask(cmd="sharing", strategy="aces")
        world.ask(cmd="aggregate", mode="lossless", for_s=5000)
        world.ask(cmd="reduce", state="on", for_s=5000)
        world.ask(cmd="isolate", state="on", for_s=5000)
    settings = settings_of({"at": "gateway", **COMMANDS[name]})
    before = in_force(settings, said())
    world.ask(**COMMANDS[name])
    world.now += 50
    back = inverse(before, world.now)
    assert back is not None
    _, outcome = world.ask(**back)
    assert (outcome.result, in_force(settings, said())) == ("done", before)
    world.store.close()


def test_of_a_gateway_before_0_3_only_periods_and_relay_can_be_put_back() -> None:
    old = heartbeat(strategy=None, meters=None)
    assert inverse(in_force(frozenset({"reduce"}), old), NOW) is None
    assert inverse(in_force(frozenset({"relay_s"}), old), NOW) == {
        "cmd": "schedule",
        "periods": {"relay_s": None},
    }
    assert inverse({}, NOW) is None


STORM = Storm(start=NOW + 86_400, end=NOW + 129_600)
ANNA_IN_SESSION = Actor(
    name="anna", roles=frozenset({Role.OPERATOR}), account=None, via=Via.SESSION, address="10.0.0.7"
)


def plants_storm(database: Database) -> Storm | None:
    with database.reads.begin() as connection:
        return announced_storm(connection, NOW)


def told(database: Database) -> set[tuple[str, str, int | None, int]]:
    """Return (controller, state, seconds, end) of the open commands."""
    with database.reads.begin() as connection:
        found = [(each.controller, json.loads(each.message)) for each in open_commands(connection)]
    return {(to, message["state"], message.get("for_s"), message["until"]) for to, message in found}


def test_gateways_hear_of_a_storm_and_of_its_cancellation_as_long_as_it_lasts(database: Database) -> None:
    announce_storm(database, ANNA_IN_SESSION, STORM, NOW)
    assert told(database) == {(to, "on", 129_600, STORM.end) for to in ("r001", "r002")}
    announce_storm(database, ANNA_IN_SESSION, None, NOW + 60)
    assert told(database) == {(to, "off", None, STORM.end) for to in ("r001", "r002")}
    assert plants_storm(database) is None


def test_a_storm_is_announced_to_the_plant_and_the_gateways_or_to_none(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> int:
        raise RuntimeError("the service is killed here")

    monkeypatch.setattr(storms, "add_change", crash)
    with pytest.raises(RuntimeError):
        announce_storm(database, ANNA_IN_SESSION, STORM, NOW)
    assert plants_storm(database) is None


def test_the_plant_is_told_before_a_microgrid_is_registered(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path}/new.db", create=True)
    assert announce_storm(database, ANNA_IN_SESSION, STORM, NOW) is None
    assert plants_storm(database) == STORM
    database.close()


def test_a_gateway_of_an_earlier_release_is_shown_as_one_that_does_not_hold(database: Database, config: Path) -> None:
    announce_storm(database, ANNA_IN_SESSION, STORM, NOW)
    with database.reads.begin() as connection:
        asked = open_commands(connection)
    for each, result in zip(asked, ("done", "unsupported"), strict=True):
        reason = None if result == "done" else "this version has no command hold"
        outcome = ControllerOutcome(id=each.id, cmd="hold", result=result, reason=reason, time=NOW)
        closing = CloseCommand(id=each.id, controller=each.controller, state="done", outcome=outcome.pack().decode())
        Writer(database).commit([closing])
    (change,) = shown(config, "commands", "changes")["changes"]
    assert change["counts"]["refused"] == 1
    results = [one["result"] for one in shown(config, "commands")["commands"]]
    assert "unsupported: this version has no command hold" in results
