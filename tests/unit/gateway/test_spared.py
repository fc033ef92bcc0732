"""A place that must not be cut stays on whatever is short; and what homes answer when they are asked to reduce."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from commonwatt.energy.shedding import GROUPS, TURN_S
from commonwatt.model.records import State
from gateway.control.mode_changes import ModeChange
from gateway.page.sections import town
from gateway.shown.lasting import reduced_hours
from harness.worlds.gateway import World
from harness.worlds.street import Street
from tests.unit.gateway.test_report import outcomes
from tests.unit.gateway.test_shedding import HOUSES, ISLAND, isolated, sensed
from tests.unit.gateway.test_shedding import world as _world_of

world = _world_of
DARK = ISLAND | int(State.DEAD_FEEDER)


def spare(world: World, *meters: int) -> None:
    asked = {
        "v": 1,
        "id": f"s{world.now}{meters}",
        "cmd": "spare",
        "until": 2**32 - 1,
        "spared": list(map(str, meters)),
    }
    (outcome,) = outcomes(world.utility_says("cmd", json.dumps(asked).encode()))
    assert outcome.result == "done"


def off_in_all_turns(world: World) -> set[str]:
    found = set()
    for _ in range(GROUPS):
        world.now += TURN_S
        for meter in HOUSES:
            world.level(meter, 49)
        before = len(world.sent)
        sensed(world, DARK)
        world.tick("retry")
        found |= {meter for meter, state in isolated(world, before) if state == "on"}
    return found


def test_a_spared_place_stays_on_in_every_turn_also_after_a_restart_until_it_is_spared_no_more(world: World) -> None:
    sensed(world, DARK)
    spare(world, 2)
    assert off_in_all_turns(world) == {"1", "3"}
    world.crash()
    for meter in HOUSES:
        world.introduce(meter)
    sensed(world, DARK)
    assert off_in_all_turns(world) == {"1", "3"}
    spare(world)
    assert off_in_all_turns(world) == {"1", "2", "3"}


def test_a_place_that_is_off_comes_back_when_it_is_spared(world: World) -> None:
    sensed(world, DARK)
    for meter in HOUSES:
        world.level(meter, 49)
    before = len(world.sent)
    world.tick("retry")
    off = int(next(meter for meter, state in isolated(world, before) if state == "on"))
    before = len(world.sent)
    spare(world, off)
    assert (str(off), "off") in isolated(world, before)


@pytest.fixture(name="street")
def _street(tmp_path: Path) -> Iterator[Street]:
    it = Street(tmp_path / "gateway.db")
    yield it
    it.store.close()


def test_the_answer_to_reduce_is_measured_beside_the_assumed_20_percent(street: Street) -> None:
    street.write(4, sun_w=0)
    street.levels(80)
    street.turns(40)
    past = street.lasting._pasts["r001"]
    hour = past.end - 5
    assert past.answer([]) is None
    past._power[0, [hour % 672, (hour + 1) % 672]] *= 0.86
    assert past.answer([hour, hour + 1, past.end + 9]) == (14, 2)
    street.hosted.figures.answer = (14, 2)
    shown = str(town(street.shown()))
    assert "Asked to reduce, homes used 14 % less in 2 hours; 20 % is assumed." in shown


def test_only_whole_hours_in_which_all_reduced_count() -> None:
    told = [(3600 * 10 + 1, "on"), (3600 * 13 + 59, "off"), (3600 * 20, "on")]
    changes = [ModeChange(time=time, mode="reducing", value=value, why="") for time, value in told]
    assert reduced_hours(changes, 3600 * 22 - 1) == [11, 12, 20]
