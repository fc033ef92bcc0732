"""No run goes less short than the bound of perfect knowledge, and the bound knows what could be known."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from commonwatt.energy.simulation.figures import KINDS, Figures
from harness.perfect.__main__ import NOTHING, is_near
from harness.perfect.homes_program import Rules
from harness.perfect.least import between, least_unserved
from harness.perfect.recorded import World, record
from tests.unit.scenarios.test_simulation import conditions, town
from utility.supply.simulated.policies import POLICIES

EXACT = 1000  # what the solver's answers may be wrong by, milliwatt-hours


@cache
def recorded(name: str, policy: str) -> tuple[World, Figures]:
    return record(town(), conditions(name), POLICIES[policy], days=2)


@pytest.mark.parametrize(
    ("name", "policy", "rules"),
    [
        ("storm-hard", "none", Rules.POOLED),
        ("storm-hard", "none", Rules.PHYSICS),
        ("storm-hard", "spec", Rules.MINIMA),
        ("storm", "rangers", Rules.PHYSICS),
    ],
)
def test_no_run_goes_less_short_than_the_bound(name: str, policy: str, rules: Rules) -> None:
    world, figures = recorded(name, policy)
    short = {kind: figures.kinds[kind].unserved.total() for kind in KINDS}
    first = next(hour for hour, sample in enumerate(figures.samples) if sample.islands)
    bound, later = (least_unserved(between(world, hour, 48), rules) for hour in (0, first))
    assert short["residential"] > 0
    assert bound.unserved["residential"] <= later.unserved["residential"] + EXACT
    for kind in KINDS:
        assert later.unserved[kind] <= short[kind] + EXACT
    assert bound.answer.columns > bound.answer.rows > 0


def test_each_rule_binds_the_batteries_more_than_the_one_before() -> None:
    world, figures = recorded("storm", "rangers")
    first = next(hour for hour, sample in enumerate(figures.samples) if sample.islands)
    pooled, minima, physics = (
        least_unserved(between(world, first, 48), rules).unserved["residential"] for rules in Rules
    )
    assert pooled <= minima + EXACT
    assert minima + EXACT < physics, "half the houses are empty while others hold energy below their minima"


def test_control_is_near_the_bound_from_the_first_island_on_in_a_small_towns_storms() -> None:
    for name in ("storm", "storm-hard"):
        world, figures = recorded(name, "spec")
        first = next(hour for hour, sample in enumerate(figures.samples) if sample.islands)
        assert is_near(figures, least_unserved(between(world, first, 48)).unserved)
        assert not is_near(figures, NOTHING)


def test_the_bound_meets_the_recorded_world_to_the_milliwatt_hour() -> None:
    world, figures = recorded("storm-hard", "spec")
    assert int(world.load.sum()) == sum(kind.wanted + kind.cold - kind.reduced for kind in figures.kinds.values())
    islands = (world.imports == 0).all(axis=0) | (world.imports == 0)
    assert not world.exports[islands].any()
    assert islands.any()


def test_what_is_short_in_the_whole_town_is_taken_from_houses_first() -> None:
    world, _ = recorded("storm-hard", "spec")
    start = between(world, world.load.shape[1] - 6, world.load.shape[1])
    # Only the public microgrid's and the apartments' demand can be bought, and no battery has anything.
    others = np.array([kind != "residential" for kind in start.kinds])
    dry = replace(
        start,
        sun=np.zeros_like(start.sun),
        levels=np.zeros_like(start.levels),
        plant_levels=np.zeros_like(start.plant_levels),
        line=start.load[others].sum(axis=0),
    )
    short = least_unserved(dry, Rules.POOLED).unserved
    assert short["public"] + short["apartment"] == pytest.approx(0, abs=EXACT)
    assert short["residential"] == pytest.approx(start.load[~others].sum(), rel=1e-5)
