"""Whatever shares, batteries stay within the limits that the bound of perfect knowledge takes from the physics."""

import numpy as np
import pytest

from commonwatt.energy.physics.places import blocks_of
from commonwatt.energy.physics.step import Inputs, within
from harness.perfect.reach import reach
from harness.perfect.recorded import STEPS_PER_HOUR, Homes
from tests.unit.scenarios.test_simulation import town

HOURS = 48


@pytest.mark.parametrize("seed", range(2))
def test_no_choice_of_donors_moves_a_battery_beyond_its_limits(seed: int) -> None:
    rng = np.random.default_rng(seed)
    (places,) = [one for one in blocks_of(town(), town().microgrids.values(), 900) if one.kind == "residential"]
    steps, shape = HOURS * STEPS_PER_HOUR, places.shape
    hour = np.arange(steps)[:, None, None] / STEPS_PER_HOUR
    load = places.capacity // 96 * rng.uniform(0, 2, (steps, *shape))
    need = (load - places.full_sun * np.maximum(np.sin(hour / 24 * 2 * np.pi), 0) * rng.uniform(0, 1.5)).astype(
        np.int32
    )
    level = (places.capacity * rng.uniform(0, 1, shape)).astype(np.int64)
    levels = np.broadcast_to(level, (HOURS, *shape))
    far = reach(Homes(places=places, rows=np.arange(shape[0]), need=need, levels=levels))
    given = received = before = np.zeros_like(level)
    often = rng.uniform(0, 1)
    for step in range(steps):
        weights = (rng.random(shape) < often) * rng.integers(1, 9, shape)
        inputs = Inputs(load=np.maximum(need[step], 0), generation=np.maximum(-need[step], 0), weights=weights)
        flows = within(places, level, inputs)
        level, given, received = flows.level, given + flows.given, received + flows.received
        end, rest = divmod(step + 1, STEPS_PER_HOUR)
        if not rest:
            assert (level <= far.highest[..., end - 1]).all()
            assert (given <= far.given[..., end - 1] + received).all()
            assert (given - before <= far.gives[..., end - 1]).all()
            before = given
            kept, drained = far.kept[..., end - 1] - given, far.drained[..., end - 1]
            assert (level <= np.maximum(kept, drained) + received).all()
    assert given.sum() == received.sum() > 0
