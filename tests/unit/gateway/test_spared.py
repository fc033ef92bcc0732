"""A place that must not be cut stays on whatever is short."""

import json

from commonwatt.energy.shedding import GROUPS, TURN_S
from commonwatt.model.records import State
from harness.surroundings.gateway import World
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
