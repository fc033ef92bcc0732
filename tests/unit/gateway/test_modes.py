"""What the utility sets for a microgrid reaches its meters, is renewed, and ends by itself; islands, by the sensor."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commonwatt.model.control import STABLE_S, return_delay_s
from commonwatt.model.effects import Write
from commonwatt.model.records import EventRecord, State
from commonwatt.protocol.commands import Command
from commonwatt.protocol.controller_commands import ACTIONS, MOST_LISTED, ControllerCommand, Strategy
from commonwatt.protocol.json_messages import MAX_COMMAND_BYTES
from commonwatt.protocol.meter_messages import LiveLevel
from gateway.control.islanding import Phase
from gateway.control.manager import RENEW_S, SHARE_FOR_S
from gateway.control.microgrid_states import MAX_TO_COME, MicrogridStates, kept_states
from gateway.store.changes import Setting
from harness.surroundings.gateway import CAPACITY, World, commands, registered
from tests.unit.gateway.conftest import BOUNDARY, HOUSES

UP, OPEN, DEAD = int(State.INITIALIZED), int(State.SWITCH_OPEN), int(State.DEAD_FEEDER)
ISLAND = UP | int(State.OFF_GRID) | OPEN


def delay_s(returned: int) -> int:
    """Return the microgrid's own delay after the voltage came back."""
    return return_delay_s("r001", returned, is_public=False)


@pytest.fixture
def world(bounded_world: World) -> World:
    return bounded_world


def sensed(world: World, bits: int) -> list[Command]:
    """Let the boundary sensor report."""
    return world.introduce(BOUNDARY, minimum=None, bits=bits, cmd="get")


def answered(world: World, bits: int, name: str, late_s: int) -> list[Command]:
    """Let the boundary sensor answer the command ``name``."""
    sent = world.introduce(BOUNDARY, minimum=None, bits=bits, cmd="get", name=name, late_s=late_s)
    return [command for command in sent if command.cmd != "put"]


def told(world: World, **fields: object) -> list[Command]:
    """Let the utility command; return the commands to meters, by which it was carried out."""
    before = len(world.sent)
    _, outcome = world.ask(**fields)
    assert outcome.result == "done", outcome
    return commands(world.sent[before:])


def named(sent: list[Command]) -> list[str]:
    return sorted({command.cmd for command in sent})


def retried(world: World) -> list[Command]:
    return [c for c in commands(world.tick("retry")) if c.cmd not in ("initialize", "get")]


def obey(world: World, sent: list[Command], *meters: int) -> None:
    for meter in meters:
        for command in sent:
            if command.desired() is not None:
                world.answer(command, meter)


def test_reducing_reaches_every_meter_is_renewed_and_ends_by_itself(world: World) -> None:
    sensed(world, UP)
    sent = told(world, cmd="reduce", state="on", for_s=1200)
    assert [c.cmd for c in sent] == ["reduce_power_on"] * 3
    assert {c.until for c in sent} == {world.now + SHARE_FOR_S}
    obey(world, sent[:1], *HOUSES)
    assert retried(world) == []
    world.now += SHARE_FOR_S - RENEW_S
    assert named(retried(world)) == ["reduce_power_on"]
    world.now += 1200 - SHARE_FOR_S + RENEW_S
    assert named(retried(world)) == ["reduce_power_off"]


def test_reducing_is_ended_by_a_command_and_survives_a_restart(world: World) -> None:
    sensed(world, UP)
    told(world, cmd="reduce", state="on", for_s=7200)
    world.crash()
    world.tick("retry")
    assert world.core.modes.view(world.core.now).reducing == "the utility asks for less load"
    sensed(world, UP)
    assert named(told(world, cmd="reduce", state="off")) == ["reduce_power_off"]


def test_a_supply_that_is_not_normal_reduces_until_its_end(world: World) -> None:
    sensed(world, UP)
    assert named(told(world, cmd="supply", supply="LOW", for_s=600)) == ["reduce_power_on"]
    states = world.core.modes.states
    assert (states.supply_at(world.now), states.import_limit_w_at(world.now)) == ("LOW", None)
    world.now += 600
    assert (states.supply_at(world.now), states.import_limit_w_at(world.now)) == ("NORMAL", None)
    assert named(retried(world)) == ["reduce_power_off"]


def test_within_an_import_limit_all_reduce_though_the_supply_is_normal(world: World) -> None:  # req: P5
    sensed(world, UP)
    assert "reduce_power_on" in named(told(world, cmd="supply", supply="NORMAL", import_limit_w=5000, for_s=600))
    assert world.core.modes.view(world.core.now).reducing == "the import from the town is limited"
    world.now += 600
    assert named(retried(world)) == ["limit_import", "reduce_power_off"]


def limits(sent: list[Command]) -> list[tuple[int | None, int | None]]:
    return [(c.import_limit_w, c.until) for c in sent if c.cmd == "limit_import"]


def test_an_import_limit_reaches_the_boundary_meter_is_renewed_changed_and_ended(world: World) -> None:  # req: A2, A8
    before, now = len(world.sent), world.now
    sent = told(world, cmd="supply", supply="CRITICAL", import_limit_w=0, for_s=1800)
    assert limits(sent) == [(0, now + SHARE_FOR_S)]
    topics = {p.topic for p in world.sent[before:] if b"limit_import" in p.payload and p.topic.endswith("/d/cmd")}
    assert topics == {f"cw1/r001/{BOUNDARY}/d/cmd"}
    assert world.core.modes.view(world.core.now).limited == "takes nothing from the town, for 30 min more"
    obey(world, [c for c in sent if c.cmd == "limit_import"], BOUNDARY)
    assert limits(retried(world)) == []
    world.now += SHARE_FOR_S - RENEW_S
    assert limits(retried(world)) == [(0, world.now + SHARE_FOR_S)]
    assert limits(told(world, cmd="supply", supply="LOW", import_limit_w=5000, for_s=600))[0][0] == 5000
    words = "takes at most 5000 W from the town, for 10 min more"
    assert world.core.modes.view(world.core.now).limited == words
    world.crash()
    retried(world)
    assert world.core.modes.view(world.core.now).limited == words
    world.now += 600
    assert limits(retried(world)) == [(None, None)], "the supply's end, without a word of the utility"
    assert world.core.modes.view(world.core.now).limited is None
    assert limits(retried(world)) == []


@pytest.mark.parametrize("result", ["unsupported", "refused"])
def test_a_meter_that_knows_no_limit_is_told_again_seldom(world: World, result: str) -> None:
    (sent,) = [
        c for c in told(world, cmd="supply", supply="CRITICAL", import_limit_w=0, for_s=10**6) if c.import_limit_w == 0
    ]
    told_again = 0
    for _ in range(3600 // 10):
        outcome = {"v": 1, "id": sent.id, "cmd": "limit_import", "result": result, "time": world.now, "bits": UP}
        before = len(world.sent)
        world.meter_says(BOUNDARY, "out", json.dumps(outcome | {"push": True, "epoch": [1, 0]}).encode())
        world.now += 10
        retried(world)
        told_again += len(limits(commands(world.sent[before:])))
    assert 0 < told_again <= 12, "a meter that is upgraded gets it; one in five minutes at most"


def test_the_loss_of_voltage_makes_an_island_at_the_sensors_event(world: World) -> None:
    for meter in HOUSES:
        world.level(meter, 49)
    event = EventRecord(previous_state=UP, new_state=ISLAND | DEAD, record_id=1, meter_id=BOUNDARY, time=world.now)
    before = len(world.sent)
    world.put(BOUNDARY, 1, [event])
    assert named(commands(world.sent[before:])) == ["isolate", "reduce_power_on"]
    assert world.core.modes.view(world.core.now).phase is Phase.ISLANDED


def test_an_island_reduces_by_the_hours_of_energy_left_with_a_hysteresis(world: World) -> None:  # req: C5
    def at(percent: float) -> str | None:
        world.now += 15
        for meter in HOUSES:
            world.level(meter, percent)
        retried(world)
        return world.core.modes.view(world.core.now).reducing

    sensed(world, ISLAND | DEAD)
    # A battery stores a day of average use: 50 % are 12 h, 75 % are 18 h.
    assert at(60) is None
    assert at(51) is None
    assert at(49) == "the island's batteries hold 11.8 h of average use"
    assert at(74) == "the island's batteries hold 17.8 h of average use", "the meters hold the state: it goes on"
    assert at(76) is None
    assert at(60) is None
    told(world, cmd="sharing", strategy="aces")
    assert at(60) == "the microgrid is an island", "aces reduces in every island"


def test_before_an_announced_storm_nothing_leaves_a_battery_but_island_help_until_its_end(world: World) -> None:
    def donors(*percents: float) -> set[int]:
        world.now += 60
        for meter, percent in zip(HOUSES, percents, strict=True):
            world.level(meter, percent)
        return set(world.core.manager.decision.donors)

    sensed(world, UP)
    assert donors(90, 80, 30) == {1, 2}
    assert named(told(world, cmd="hold", state="on", for_s=7200)) == []
    assert donors(90, 80, 30) == set(), "sharing on the grid ends at once"
    assert "a storm is announced" in (world.core.modes.view(world.core.now).holding or "")
    world.crash()
    sensed(world, UP)
    for meter in HOUSES:
        world.introduce(meter)
    assert donors(90, 80, 30) == set(), "over a restart"
    assert donors(90, 80, 1) == {1, 2}, "what an island gives"
    assert donors(90, 80, 30) == set()
    told(world, cmd="hold", state="off")
    assert donors(90, 80, 30) == {1, 2}, "cancelled"
    told(world, cmd="hold", state="on", for_s=600)
    assert donors(90, 80, 30) == set()
    world.now += 600
    retried(world)
    assert donors(90, 80, 30) == {1, 2}, "ended"


def test_a_hold_that_is_told_late_ends_with_the_storm(world: World) -> None:
    world.now += 5_000
    told(world, cmd="hold", state="on", for_s=7200, until=world.now + 2_200)
    assert world.core.modes.states.hold_until == world.now + 2_200
    world.forget_time()
    told(world, cmd="hold", state="on", for_s=7200, until=world.now + 2_200)
    assert world.core.modes.states.hold_until == world.now + 7_200, "the date says nothing to an unproven clock"


def kept_settings(states: MicrogridStates) -> dict[str, str]:
    """Return what is stored of states, by setting."""
    changes = [effect.change for effect in states.kept() if isinstance(effect, Write)]
    return {change.key: change.value for change in changes if isinstance(change, Setting)}


def test_release_0_2_reads_the_states_of_this_one() -> None:
    """By the keys that the code of 0.2 read, each a parameter; another one ends it at the start."""
    states = MicrogridStates(hold_until=500)
    shared = {"cmd": "sharing", "strategy": "aces", "weights": {"1": 2}, "from_time": 5}
    states = states.set(ControllerCommand.model_validate({"id": "x", "until": 9, **shared}), 1)
    kept = kept_settings(states)
    fields = json.loads(kept["microgrid_states"])
    ends = {"reduce_until", "isolate_until", "supply_until", "notice_until"}
    assert fields.keys() == ends | {"supply", "import_limit_w", "power_lost", "sharing"}
    assert fields["sharing"] == [{"strategy": "aces", "weights": None, "from_time": 5}]
    assert kept_states(kept.get) == states


def isolations(sent: list[Command]) -> list[str | None]:
    return [command.state for command in sent if command.cmd == "isolate"]


def late(world: World, bits: int, by_s: int) -> list[Command]:
    """Let a report of the boundary sensor arrive late."""
    world.now -= by_s
    event = EventRecord(previous_state=UP, new_state=bits, record_id=1, meter_id=BOUNDARY, time=world.now)
    world.now += by_s
    before = len(world.sent)
    world.put(BOUNDARY, 1, [event])
    return commands(world.sent[before:])


def test_a_report_that_comes_late_opens_nothing_and_closes_nothing(world: World) -> None:
    """req: C5"""
    sensed(world, UP)
    assert isolations(late(world, ISLAND | DEAD, 600)) == [], "the voltage was lost and is back"
    assert "on" in isolations(sensed(world, ISLAND | DEAD))
    assert isolations(late(world, UP, 600)) == [], "the report is older than the loss"
    assert world.core.modes.view(world.core.now).phase is Phase.ISLANDED


def test_an_old_event_is_no_report_of_the_present_and_the_boundary_is_asked_until_it_answers(world: World) -> None:
    sent = late(world, ISLAND, 600)
    assert isolations(sent) == []
    assert [command.what for command in sent if command.cmd == "get"] == ["state"]
    world.now += 15
    assert "state" in [c.what for c in commands(world.tick("retry"))]
    sensed(world, UP)
    world.now += 15
    assert "state" not in [c.what for c in commands(world.tick("retry"))]


def test_an_answer_that_the_network_delayed_opens_nothing_though_its_sensors_clock_was_set_back(world: World) -> None:
    """req: C5"""
    sensed(world, UP)
    world.core.manager.state(BOUNDARY, UP, world.now + 86_400, world.core.now)
    asked = [answered(world, ISLAND, "r001-isolate-3", late_s=1800)]
    world.now += 600
    asked.append(answered(world, ISLAND, asked[0][0].id, late_s=600))
    assert [[(c.cmd, c.what) for c in sent] for sent in asked] == [[("get", "state")]] * 2
    assert asked[0][0].id != asked[1][0].id


@pytest.mark.parametrize("late_s", [-86_400, 1800])
def test_a_sensor_with_a_wrong_clock_is_asked_and_its_answer_counts(world: World, late_s: int) -> None:
    """req: C5"""
    (request,) = answered(world, ISLAND | DEAD, "r001-put-7", late_s=late_s)
    assert (request.cmd, request.what) == ("get", "state")
    world.now += 30
    assert "on" in isolations(answered(world, ISLAND | DEAD, request.id, late_s=late_s))


def test_reports_count_again_after_a_sensor_with_a_clock_ahead_was_set(world: World) -> None:
    world.core.manager.state(BOUNDARY, UP, world.now + 3600, world.core.now)
    assert "on" in isolations(sensed(world, ISLAND | DEAD))


def test_a_late_report_closes_nothing_after_a_restart_either(world: World) -> None:
    """The gateway knows its command to open, and no longer the report that made it."""
    (opening, *_) = sensed(world, ISLAND | DEAD)
    world.crash()
    assert isolations(late(world, UP, 30)) == []
    began = world.now
    while world.now < began + STABLE_S + delay_s(began):
        world.answer(opening, BOUNDARY)
        assert "off" not in isolations(sensed(world, ISLAND))
        world.now += 15
    assert "off" in isolations(sensed(world, ISLAND))


@pytest.mark.parametrize("wrong_s", [-600, 600])
def test_a_clock_that_is_wrong_at_the_start_brings_no_ended_command_back(world: World, wrong_s: int) -> None:
    sensed(world, UP)
    (opening,) = told(world, cmd="isolate", state="on", for_s=900)
    world.answer(opening, BOUNDARY)
    end = world.core.modes.states.isolate_until
    world.now += 1200
    world.crash()
    world.forget_time()
    right, world.now = world.now, world.now + wrong_s
    assert isolations(retried(world)) == []
    world.core.time.network(world.now, right, 0)
    assert isolations(retried(world)) == []
    assert world.core.modes.states.isolate_until == end


def test_a_state_set_by_an_untrusted_clock_lasts_its_duration_when_the_time_is_set(world: World) -> None:
    sensed(world, UP)
    world.forget_time()
    assert isolations(told(world, cmd="isolate", state="on", for_s=900)) == ["on"]
    world.core.time.network(world.now, world.now + 600, 0)
    retried(world)
    assert world.core.modes.states.isolate_until == world.now + 600 + 900


@pytest.mark.parametrize("before", [UP, ISLAND])
def test_an_excursion_within_one_put_of_events_begins_the_wait_again(world: World, before: int) -> None:
    for _ in range(20):
        sensed(world, before)
        world.now += 15
    lost = EventRecord(
        previous_state=before, new_state=ISLAND | DEAD, record_id=1, meter_id=BOUNDARY, time=world.now - 10
    )
    back = EventRecord(
        previous_state=ISLAND | DEAD, new_state=ISLAND, record_id=2, meter_id=BOUNDARY, time=world.now - 5
    )
    sent = len(world.sent)
    world.put(BOUNDARY, 1, [lost, back])
    assert "off" not in isolations(commands(world.sent[sent:]))
    wait_s = STABLE_S + delay_s(world.now)
    assert f"the switch closes in {wait_s} s" in world.core.modes.view(world.core.now).reason


def test_an_island_returns_after_the_stable_voltage_and_its_delay_also_over_a_restart(world: World) -> None:
    sensed(world, ISLAND | DEAD)
    for restart_at in (60, None):
        began = world.now
        wait_s = STABLE_S + delay_s(began)
        while world.now - began < wait_s and restart_at != world.now - began:
            assert not [c for c in sensed(world, ISLAND) if c.state == "off"]
            world.now += 15
        if restart_at is not None:
            world.crash()
    (closing,) = [c for c in sensed(world, ISLAND) if c.cmd == "isolate"]
    assert closing.state == "off"
    before = len(world.sent)
    world.answer(closing, BOUNDARY)
    assert named(commands(world.sent[before:])) == ["reduce_power_off"]
    assert world.core.modes.view(world.core.now).phase is Phase.CONNECTED


def test_every_change_of_an_island_is_kept_with_its_reason_over_a_restart(world: World) -> None:
    sensed(world, UP)
    assert list(world.core.modes.changes.changes) == [], "nothing has changed yet"
    sensed(world, ISLAND | DEAD)
    world.crash()
    retried(world)
    wait_s = STABLE_S + delay_s(world.now)
    began = world.now
    while world.now - began <= wait_s:
        sent = sensed(world, ISLAND)
        world.now += 15
    (closing,) = [c for c in sent if c.cmd == "isolate"]
    world.answer(closing, BOUNDARY)
    changes = world.core.modes.changes
    assert [(c.value, c.why) for c in changes.changes if c.mode == "phase"] == [
        ("islanded", "the town's side has no voltage"),
        ("resynchronising", f"the voltage is back; the switch closes in {wait_s} s if it stays"),
        ("connected", "the town's side has voltage"),
    ]
    assert [c.value for c in changes.changes if c.mode == "reducing"] == ["on", "off"]
    assert [str(c) for c in changes.take_unlogged()][-1] == "reducing: off"
    assert changes.take_unlogged() == []


def test_a_switch_that_closes_is_not_opened_again_while_its_report_is_late(world: World) -> None:
    sensed(world, ISLAND | DEAD)
    began = world.now
    wait_s = STABLE_S + delay_s(began)
    while world.now - began <= wait_s:
        sent = sensed(world, ISLAND)
        world.now += 15
    assert [c.state for c in sent if c.cmd == "isolate"] == ["off"]
    # The machine is slow: no report of the sensor comes for two minutes, while the switch closes.
    for _ in range(24):
        world.now += 5
        assert "on" not in [c.state for c in retried(world) if c.cmd == "isolate"]


def test_a_command_to_isolate_holds_until_its_end_and_no_longer(world: World) -> None:
    sensed(world, UP)
    (opening,) = told(world, cmd="isolate", state="on", for_s=3600)
    assert (opening.cmd, opening.state) == ("isolate", "on")
    end = world.now + 3600
    while world.now < end:
        world.answer(opening, BOUNDARY)
        sent = [c for c in sensed(world, ISLAND) if c.cmd == "isolate"]
        assert not [c for c in sent if c.state == "off"], "no command's end may be anticipated"
        opening = sent[-1] if sent else opening
        world.now += 15
    assert "off" in [c.state for c in sensed(world, ISLAND) if c.cmd == "isolate"]


def test_a_notice_against_the_sensor_is_shown_and_changes_nothing(world: World) -> None:
    sensed(world, UP)
    assert told(world, cmd="notice", power="lost", for_s=600) == []
    view = world.core.modes.view(world.core.now)
    assert view.phase is Phase.CONNECTED
    assert "the sensor is right" in str(view.contradiction)
    world.now += 600
    world.tick("retry")
    assert world.core.modes.view(world.core.now).contradiction is None


def test_late_and_doubled_notices_and_commands_to_isolate_change_nothing(world: World) -> None:
    """The network may deliver anything twice, and hours later."""
    sensed(world, UP)
    late = {"v": 1, "id": "n1", "cmd": "notice", "power": "lost", "for_s": 7200, "until": world.now + 60}
    isolate = {"v": 1, "id": "i1", "cmd": "isolate", "state": "on", "for_s": 60, "until": world.now + 60}
    for _ in range(2):
        for command in (late, isolate):
            world.utility_says("cmd", json.dumps(command).encode())
    ends = world.core.modes.states
    world.now += 30
    for command in (late, isolate):
        world.utility_says("cmd", json.dumps(command).encode())
    assert world.core.modes.states == ends, "the same id again is the same command, with the same end"
    world.now += 3600
    before = len(world.sent)
    for name, command in (("n2", late), ("i2", isolate)):
        world.utility_says("cmd", json.dumps(command | {"id": name}).encode())
    assert commands(world.sent[before:]) == [], "past its time a command is expired"
    assert world.core.modes.states == ends


def test_a_meter_with_a_wrong_clock_neither_blocks_nor_starts_sharing(world: World) -> None:
    sensed(world, UP)
    for meter, percent in ((1, 90), (2, 80), (3, 30)):
        world.level(meter, percent)
    assert set(world.core.manager.decision.donors) == {1, 2}
    ahead = LiveLevel(state=UP, time=world.now + 3000, level=CAPACITY)
    world.meter_says(3, "lvl", ahead.pack())
    assert set(world.core.manager.decision.donors) == {1, 2}, "a level from the future counts for nothing"
    world.now += 15
    behind = LiveLevel(state=UP, time=world.now - 7200, level=CAPACITY)
    world.meter_says(3, "lvl", behind.pack())
    assert set(world.core.manager.decision.donors) == {1, 2}, "an older level does not replace a newer one"


def test_the_boundary_is_asked_every_slot_while_the_microgrid_is_not_connected(world: World) -> None:
    def asked() -> int:
        return [c.what for c in commands(world.tick("retry")) if c.cmd == "get"].count("state")

    assert asked() == 0, "unknown: its answer to `initialize` is under way"
    sensed(world, UP)
    world.now += 3600
    assert asked() == 0, "connected: it reports a change by itself"
    sensed(world, ISLAND)
    assert [asked(), asked()] == [1, 0]
    world.now += 15
    assert asked() == 1


def test_a_strategy_holds_from_its_date_and_the_next_one_waits(world: World) -> None:
    assert told(world, cmd="sharing", strategy="rangers", weights={"1": 2}) == []
    told(world, cmd="sharing", strategy="aces", from_time=world.now + 3600)
    told(world, cmd="sharing", weights={}, from_time=world.now + 7200)
    told(world, cmd="sharing", strategy="spec", weights={"1": 3}, from_time=world.now + 10_800)
    world.crash()

    def in_force() -> tuple[str, dict[int, int]]:
        world.tick("retry")
        return world.core.manager.strategy, dict(world.core.manager.weights)

    assert in_force() == ("rangers", {1: 2})
    world.now += 3600
    assert in_force() == ("aces", {1: 2}), "a strategy alone leaves the weights as they are"
    world.now += 3600
    assert in_force() == ("aces", {}), "each has 1"
    world.now += 3600
    assert in_force() == ("spec", {1: 3})
    told(world, cmd="sharing", strategy="aces", weights={})
    told(world, cmd="sharing", strategy="file")
    assert in_force() == ("spec", {}), "the settings file's"


def test_a_strategy_set_at_once_holds_when_a_clock_that_was_ahead_is_set(world: World) -> None:
    world.forget_time()
    right, world.now = world.now, world.now + 600
    told(world, cmd="sharing", strategy="rangers", weights={"1": 7})
    world.core.time.network(world.now, right, 0)
    world.tick("retry")
    assert world.core.now < right + 60
    assert (world.core.manager.strategy, world.core.manager.weights) == ("rangers", {1: 7})


@given(dates=st.lists(st.integers(-3, 20), max_size=15))
def test_a_command_for_a_later_date_changes_nothing_before_that_date(dates: list[int]) -> None:
    strategies: tuple[Strategy, ...] = ("rangers", "aces", "spec")
    states, now = MicrogridStates(), 1000
    for n, date in enumerate(dates):
        command = ControllerCommand(
            id=str(n),
            cmd="sharing",
            until=now + 600,
            strategy=strategies[n % 3],
            weights={1: n + 1},
            from_time=now + date,
        )
        before, states = states, states.set(command, now)
        if date > 0:
            assert (states.sharing_at(now), states.weights_at(now)) == (before.sharing_at(now), before.weights_at(now))
        assert states.weights_at(now + max(0, date)) == {1: n + 1}
        assert len(states.sharing) == len(states.weighting) <= 1 + MAX_TO_COME


def test_system_info_tells_what_the_controller_is(world: World) -> None:
    sensed(world, UP)
    _, outcome = world.ask(cmd="system_info")
    assert outcome.info is not None
    wanted = {"microgrid": "r001", "meters": 4, "batteries": 3, "phase": "connected", "supply": "NORMAL"}
    assert wanted.items() <= outcome.info.items()
    assert [(one.microgrid, one.manages) for one in outcome.assignments or ()] == [("r001", True)]


def test_system_info_lists_what_is_outstanding_the_newest_first_with_its_end(world: World) -> None:  # req: A4
    sensed(world, UP)
    for wait_s, cmd in ((0, "isolate"), (60, "reduce")):
        world.now += wait_s
        told(world, cmd=cmd, state="on", for_s=7200)
    found = world.ask(cmd="system_info")[1].outstanding or []
    assert {"isolate", "reduce"} <= {one.what for one in found if one.meter is None}
    assert [one.time for one in found] == sorted((one.time or 0 for one in found), reverse=True)
    until = {one.what: one.until for one in found if one.meter is None}
    assert (until["reduce"], until["isolate"]) == (world.now + 7200, world.now + 7140)
    assert {one.meter for one in found if one.meter is not None} == set(world.meters), "none has confirmed"
    world.now += 7200
    assert not [one for one in world.ask(cmd="system_info")[1].outstanding or [] if one.meter is None]


def test_system_info_of_many_meters_fits_a_message(world: World) -> None:
    long = [registered(1).model_copy(update={"id": 2**64 - number}) for number in range(1, 200)]
    world.meters |= {meter.id: meter for meter in long}
    world.new_core()
    told(world, cmd="aggregate", at="meters")
    outcome = world.ask(cmd="system_info")[1]
    assert len(outcome.outstanding or ()) == MOST_LISTED
    assert len(outcome.pack()) < MAX_COMMAND_BYTES / 2


def test_a_meter_is_stopped_until_a_person_starts_it_also_after_a_restart(world: World) -> None:  # req: M5
    def sent(meter: int) -> list[str]:
        world.now += 60
        names = ("initialize", "stop")
        found = [m for m in world.tick("retry") if f"/{meter}/" in m.topic]
        return [c.cmd for c in commands(found) if c.cmd in names]

    sensed(world, UP)
    meter = min(world.meters)
    world.introduce(meter)
    assert sent(meter) == []
    told(world, cmd="stop", meter=str(meter), state="on")
    assert sent(meter) == ["stop"]
    world.introduce(meter)
    assert sent(meter) == ["stop"], "an answer to something else"
    world.introduce(meter, cmd="stop")
    assert sent(meter) == []
    world.new_core()
    assert sent(meter) == ["stop"], "not started again"
    world.introduce(meter, cmd="stop")
    told(world, cmd="stop", meter="999", state="on")
    told(world, cmd="stop", meter=str(meter), state="off")
    assert sent(meter) == ["initialize"]
    assert not world.core.manager.stopped


def test_an_unknown_command_is_answered_unsupported(world: World) -> None:  # req: C7
    _, outcome = world.ask(cmd="explode")
    assert (outcome.result, outcome.reason) == ("unsupported", "this version has no command explode")


@pytest.mark.parametrize(
    "fields",
    [
        {"cmd": "reduce"},
        {"cmd": "reduce", "state": "on"},
        {"cmd": "supply", "supply": "LOW"},
        {"cmd": "supply", "supply": "NONE", "for_s": 60},
        {"cmd": "sharing", "strategy": "mine"},
        {"cmd": "sharing", "strategy": "spec", "weights": {"1": 0}},
    ],
)
def test_an_incomplete_or_wrong_command_changes_nothing_and_is_kept(world: World, fields: dict[str, object]) -> None:
    before = world.core.modes.states
    with pytest.raises(StopIteration):
        world.ask(**fields)
    assert world.core.modes.states == before
    assert len(world.store.dead_letters()) == 1


def test_every_command_of_the_table_is_used_by_tests_of_this_folder() -> None:
    pages = "".join(path.read_text() for path in Path(__file__).parent.rglob("test_*.py"))
    assert [action for action in ACTIONS if not re.search(rf'cmd("\: |=)"{action}"', pages)] == []
