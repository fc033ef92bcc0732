"""No run goes less short than the bound of perfect knowledge, and the bound knows what could be known."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from harness.perfect import NOTHING, is_near
from scenarios.figures import KINDS, Figures
from scenarios.perfect import least_unserved, since
from scenarios.policies import POLICIES
from scenarios.recorded import World, record
from tests.unit.scenarios.test_simulation import conditions, town

EXACT = 1000
"""What the solver's answers may be wrong by, milliwatt-hours."""


@cache
def recorded(name: str, policy: str) -> tuple[World, Figures]:
    return record(town(), conditions(name), POLICIES[policy], days=2)


@pytest.mark.parametrize("policy", ["spec", "none"])
def test_no_run_goes_less_short_than_the_bound(policy: str) -> None:
    world, figures = recorded("storm-hard", policy)
    short = {kind: figures.kinds[kind].unserved.total() for kind in KINDS}
    bound, later = least_unserved(world), least_unserved(since(world, 1))
    assert short["residential"] > 0
    assert EXACT < bound.unserved["residential"] <= later.unserved["residential"] + EXACT
    for kind in KINDS:
        assert later.unserved[kind] <= short[kind] + EXACT
    assert bound.answer.columns > bound.answer.rows > 0


def test_control_is_near_the_bound_in_the_hard_storm_of_a_small_town() -> None:
    world, figures = recorded("storm-hard", "spec")
    assert is_near(figures, least_unserved(world).unserved)
    assert not is_near(figures, NOTHING)


def test_the_bound_meets_the_recorded_world_to_the_milliwatt_hour() -> None:
    world, figures = recorded("storm-hard", "spec")
    assert int(world.load.sum()) == sum(kind.wanted for kind in figures.kinds.values())
    islands = (world.imports == 0).all(axis=0) | (world.imports == 0)
    assert not world.exports[islands].any()
    assert islands.any()


def test_what_is_short_in_the_whole_town_is_taken_from_houses_first() -> None:
    world, _ = recorded("storm-hard", "spec")
    start = since(world, world.load.shape[1] - 6)
    # Only the public microgrid's and the apartments' demand can be bought, and no battery has anything.
    others = np.array([kind != "residential" for kind in start.kinds])
    dry = replace(
        start,
        sun=np.zeros_like(start.sun),
        levels=np.zeros_like(start.levels),
        plant_levels=np.zeros_like(start.plant_levels),
        line=start.load[others].sum(axis=0),
    )
    short = least_unserved(dry).unserved
    assert short["public"] + short["apartment"] == pytest.approx(0, abs=EXACT)
    assert short["residential"] == pytest.approx(start.load[~others].sum(), rel=1e-5)
