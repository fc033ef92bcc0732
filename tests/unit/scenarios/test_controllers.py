"""Controllers in a scenario shed as the gateways do: in turns, by priority, in islands and within import limits."""

from dataclasses import replace

import numpy as np
import pytest

from commonwatt.energy.controllers import Controllers, Situation
from commonwatt.energy.physics.boundary import NO_LIMIT_W
from commonwatt.energy.physics.places import Places, blocks_of
from commonwatt.energy.physics.step import Inputs
from commonwatt.energy.shedding import GROUPS, TURN_S
from tests.unit.scenarios.test_simulation import figures, town
from utility.supply.simulated.policies import POLICIES


def block(kind: str) -> Places:
    return next(one for one in blocks_of(town(), town().microgrids.values(), 900) if one.kind == kind)


def off(
    kind: str, *, policy: str = "spec", island: bool = True, managed: bool = True, limit_w: int = NO_LIMIT_W
) -> float:
    """Return how many places of a microgrid with empty batteries are off on average in a round of turns."""
    places = block(kind)
    rows = places.shape[0]
    nothing = np.zeros(places.shape, dtype=np.int64)
    controllers = Controllers(places, POLICIES[policy].rules)
    seen = Situation(
        level=nothing,
        islands=np.full(rows, island),
        managed=np.full(rows, managed),
        short=np.zeros(rows, dtype=np.bool_),
        import_limit_w=np.full(rows, limit_w),
    )
    times = np.zeros(places.shape)
    for time in range(0, GROUPS * TURN_S, 900):
        inputs = controllers.command(time, Inputs(load=nothing, generation=nothing), seen)
        times += controllers.off
        assert (inputs.isolated is not None) == controllers.off.any()
    assert len(set(times[times > 0].tolist())) <= 1, "each place is off equally long"
    return float(times.sum() / rows * 900 / (GROUPS * TURN_S))


def test_two_thirds_of_an_empty_islands_houses_are_off_in_turn() -> None:  # req: C1, U5
    assert off("residential") == pytest.approx(10 * 2 / 3)
    assert off("apartment") == pytest.approx(24 * 2 / 3)
    assert off("public") == 0
    assert off("residential", policy="none") == off("residential", managed=False) == 0


def test_within_a_limit_no_more_are_off_than_it_leaves_without_power() -> None:  # req: C1, A8
    assert off("residential", island=False) == 0
    assert off("residential", island=False, limit_w=0) == off("residential")
    half_w = int(block("apartment").capacity.sum()) // (2 * 24 * 1000)
    assert 0 < off("apartment", island=False, limit_w=half_w) < off("apartment")


def test_within_a_limit_all_reduce_though_the_supply_is_normal() -> None:  # req: P5
    places = block("residential")
    rows, nothing = places.shape[0], np.zeros(places.shape, dtype=np.int64)
    seen = Situation(
        level=places.capacity,
        islands=np.zeros(rows, dtype=np.bool_),
        managed=np.ones(rows, dtype=np.bool_),
        short=np.zeros(rows, dtype=np.bool_),
        import_limit_w=np.where(np.arange(rows) % 2, 5000, NO_LIMIT_W),
    )
    inputs = Controllers(places, POLICIES["spec"].rules).command(0, Inputs(load=nothing, generation=nothing), seen)
    assert inputs.reducing is not None
    assert inputs.reducing[:, 0].tolist() == (np.arange(rows) % 2 > 0).tolist()


def test_in_a_storm_the_houses_that_go_short_are_off_in_turn() -> None:
    unserved = figures("storm", "spec").kinds["residential"].unserved
    assert unserved["place"] > unserved["island"] > 0


@pytest.mark.parametrize("island", [False, True])
def test_short_steps_do_not_end_sharing_in_its_first_five_minutes_but_an_island_does(island: bool) -> None:
    places = block("residential")
    rows, nothing = places.shape[0], np.zeros(places.shape, dtype=np.int64)
    controllers = Controllers(places, POLICIES["spec"].rules)
    seen = Situation(
        level=places.capacity.copy(),
        islands=np.zeros(rows, dtype=np.bool_),
        managed=np.ones(rows, dtype=np.bool_),
        short=np.zeros(rows, dtype=np.bool_),
        import_limit_w=np.full(rows, NO_LIMIT_W),
    )
    shared = []
    for time in range(0, 361, 15):
        seen.level[:, 0] = places.minimum[:, 0] - (places.capacity[:, 0] // 20 if time == 0 else -1)
        begun = replace(seen, islands=np.full(rows, island and time > 60))
        controllers.command(time, Inputs(load=nothing, generation=nothing), begun)
        shared.append(bool(controllers.sharing[:, 1:].any()))
    assert shared == [time < (75 if island else 300) for time in range(0, 361, 15)]
