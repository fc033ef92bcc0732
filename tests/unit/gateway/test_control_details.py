"""Details of a microgrid's control that decide little alone: words, times of stored levels, what is noted once."""

from typing import Any

import pytest

from commonwatt.model.time.now import Now, Trust
from commonwatt.protocol.commands import Kind
from commonwatt.protocol.controller_commands import ControllerCommand
from commonwatt.protocol.sharing_words import Why
from gateway.control.manager import SHARE_FOR_S
from gateway.control.meter_states import meter_states
from gateway.control.microgrid_states import MicrogridStates
from gateway.control.plausibility import EXCESS_PERMILLE, JUMP_PERMILLE, Doubt, recorded_of
from gateway.control.rotation import Rotation
from gateway.control.sharing import reasons
from gateway.shown.status import view
from harness.surroundings.gateway import CAPACITY, START, World, commands, registered
from tests.unit.gateway.test_manager import households
from tests.unit.gateway.test_plausibility import HALF, MOST, history, judged
from tests.unit.gateway.test_sharing import town

EXCESS = CAPACITY * EXCESS_PERMILLE // 1000


def test_a_level_that_rises_while_nothing_flows_is_doubted() -> None:
    assert judged([HALF + 20_000 * i for i in range(60)]) is Doubt.CONTRADICTING
    assert judged([20_000 * i for i in range(60)]) is Doubt.CONTRADICTING


@pytest.mark.parametrize(("rise", "doubt"), [(EXCESS, None), (EXCESS + 1, Doubt.CONTRADICTING)])
def test_the_last_level_alone_is_doubted_above_the_tolerance(rise: int, doubt: Doubt | None) -> None:
    assert rise < MOST + CAPACITY * JUMP_PERMILLE // 1000, "no jump"
    assert judged([HALF] * 20 + [HALF + rise]) is doubt


def test_a_stored_level_has_the_time_of_its_own_slot() -> None:
    assert recorded_of(history([HALF, HALF + 1], [0, 0], [0, 0])).time == START
    gap = recorded_of(history([HALF, HALF + 1, -1], [0, 0, 0], [0, 0, 0]))
    assert (gap.time, gap.level) == (START - 15, HALF + 1)


@pytest.mark.parametrize(("now", "minutes"), [(0, 10), (1, 10), (540, 1), (599, 1)])
def test_what_is_left_is_said_in_begun_minutes(now: int, minutes: int) -> None:
    states = MicrogridStates(hold_until=600, supply_until=600, import_limit_w=5)
    assert (states.hold_words(now) or "").endswith(f", for {minutes} min more")
    assert (states.limit_words(now) or "").endswith(f", for {minutes} min more")
    assert states.hold_words(600) is states.limit_words(600) is None


def test_a_strategy_for_a_date_takes_the_place_of_another_one_for_it() -> None:
    states = MicrogridStates()
    for n, strategy in enumerate(("aces", "rangers")):
        command = {"id": str(n), "cmd": "sharing", "until": 600, "strategy": strategy, "from_time": 500}
        states = states.set(ControllerCommand.model_validate(command), 100)
    assert [(one.strategy, one.from_time) for one in states.sharing] == [("rangers", 500)]


def test_a_battery_is_shown_as_told_to_share_until_the_commands_end(world: World) -> None:
    def told(later_s: int = 0) -> list[Any]:
        states: Any = view(world.core, world.controller.line, Now(world.core.now + later_s, world.core.now.trust))[
            "meter_states"
        ]
        return [states[str(meter)]["told_to_share"] for meter in (1, 2, 3)]

    households(world, 80, 70, 48)
    assert told() == [True, True, False]
    assert told(SHARE_FOR_S - 1) == [True, True, False]
    assert told(SHARE_FOR_S) == [False] * 3


def test_a_battery_that_rests_is_at_its_minimum_or_too_close_to_it() -> None:
    found = reasons(town((80, 50), (50, 50), (51, 50), (30, 50)), "spec", 20)
    assert found == {1: Why.HELPS, 2: Why.NOTHING_ABOVE, 3: Why.TOO_CLOSE, 4: Why.LOW}


def test_a_battery_in_need_that_nobody_helps_yet_waits_for_the_band_or_as_an_island() -> None:
    assert reasons(town((60, 50), (49, 50)), "spec", 20)[2] is Why.WAITS_BAND
    assert reasons(town((60, 25), (4, 75)), "spec", 20, island=True)[2] is Why.WAITS_ISLAND


def test_outcomes_of_the_minutes_question_displace_no_others(world: World) -> None:
    world.introduce(1)
    world.introduce(1, cmd="get")
    assert [note.cmd for note in world.core.manager.notes] == ["initialize"]


@pytest.mark.parametrize(("trust", "moved_s", "is_stored"), [(Trust.NONE, 600, False), (Trust.HARDWARE, 0, True)])
def test_a_state_set_by_a_hardware_clock_keeps_its_end_when_the_time_is_set(
    world: World, trust: Trust, moved_s: int, is_stored: bool
) -> None:
    command = ControllerCommand(id="1", cmd="reduce", until=START + 600, state="on", for_s=900)
    now, modes = Now(START, trust), world.core.modes
    modes.set(command, now)
    assert bool(modes.shift(600, now)) is is_stored, "a time that may be wrong is not stored"
    assert modes.states.reduce_until == START + 900 + moved_s


def test_a_place_is_isolated_at_the_meter_of_its_battery_and_is_off_until_the_commands_end(world: World) -> None:
    registry = {meter: registered(meter, battery=meter != 2) for meter in (1, 2, 3)}
    registry[3] = registry[3].model_copy(update={"location": registry[2].location})
    rotation, manager, now = Rotation("r001", world.core.manager), world.core.manager, world.core.now
    rotation.register(registry)
    assert rotation.meters == (1, 3)
    manager.order(3, Kind.ISOLATED, "on", now + 900, now)
    for later, off in ((0, [False, True]), (899, [False, True]), (900, [False, False])):
        assert rotation._row(Now(now + later, now.trust), 0).off[0].tolist() == off


@pytest.mark.parametrize(("trust", "is_duration"), [(Trust.NONE, True), (Trust.HARDWARE, False)])
def test_the_end_of_a_command_is_a_time_as_soon_as_the_clock_is_trusted(
    world: World, trust: Trust, is_duration: bool
) -> None:
    manager, now = world.core.manager, Now(START, trust)
    (command,) = commands(world.do(manager.order(1, Kind.ISOLATED, "on", START + 600, now)))
    assert (command.for_s, command.until) == ((600, None) if is_duration else (None, START + 600))


def test_what_is_told_of_a_meter_says_whether_its_place_has_a_battery(world: World) -> None:
    manager, now = world.core.manager, Now(START, Trust.NETWORK)
    told = meter_states(world.meters, manager, now)
    assert {meter: one["battery"] for meter, one in told.items()} == {"1": True, "2": True, "3": True, "4": False}  # type: ignore[index]
