"""The plant that compares policies of buying, the synthetic town, and the bound that no policy beats."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.planner import bound_of, policies
from commonwatt.model.time.local_time import local_hour
from commonwatt.model.units import QUARTER_S
from commonwatt.town.file import TownTable
from harness.supply.bound import strict_bound
from harness.supply.plant import step
from harness.supply.town import BEGIN, MEAN_W, WARM_UP_DAYS, ZONE
from harness.supply.worlds import cloudy, storms, two_prices
from harness.supply.year import PLANT, World, run
from utility.supply.buying.policies import POLICIES
from utility.supply.buying.situation import Purchase

DAYS = 2


@pytest.fixture(scope="module")
def world() -> World:
    return cloudy(1, DAYS)


@given(
    level=st.integers(0, PLANT.capacity),
    net=st.integers(-4 * 10**9, 9 * 10**9),
    purchase=st.integers(-1, 9 * 10**9),
    line=st.sampled_from([0, MEAN_W, 2 * MEAN_W]),
)
def test_plant_conserves_energy_and_keeps_its_limits(level: int, net: int, purchase: int, line: int) -> None:
    plant = replace(PLANT, level=level, line_w=line)
    done = step(plant, net, purchase)
    assert done.bought - net - done.refused + done.unserved == done.level - level + done.lost
    assert 0 <= done.bought <= plant.line_quarter
    assert min(plant.floor, level) <= done.level <= plant.capacity
    assert done.refused <= max(0, -net)
    assert not (done.unserved and done.bought < plant.line_quarter)
    assert not (done.below_reserve and done.bought < plant.line_quarter)


def test_no_policy_beats_the_strict_bound_and_the_planner_is_near(world: World) -> None:
    bound = bound_of(world)
    costs = {name: run(make(), world).cost for name, make in policies().items()}
    assert min(costs.values()) >= bound * (1 - 1e-9)
    # Two days: the level at their end counts for much.
    assert costs["planner"] <= 1.02 * bound
    assert costs["planner"] <= 1.005 * costs["aces"]


def test_bound_needs_a_line_that_serves_the_load(world: World) -> None:
    part = world.scored
    with pytest.raises(ValueError, match="no strict bound"):
        strict_bound(PLANT, world.net[part], world.prices[part], np.zeros_like(world.net[part]), 800, 1000)


def test_planner_serves_more_of_a_storm_than_a_rule() -> None:
    full = storms(1, 11)
    last = replace(full, first=(WARM_UP_DAYS + 8) * 96)
    years = {name: run(make(), last) for name, make in policies().items() if name in ("planner", "aces")}
    assert years["planner"].unserved < years["aces"].unserved


@pytest.mark.parametrize(("start", "end"), [(7, 13), (22, 4)])
@pytest.mark.parametrize("name", ["spec", "aces", "rangers"])
def test_rule_pays_no_more_than_doing_nothing_at_any_peak_hours(name: str, start: int, end: int) -> None:
    """# req: U4"""
    dear = TownTable(peak_start_hour=start, peak_end_hour=end).peak_hours
    plain = two_prices(1, 21)
    hours = local_hour(BEGIN // QUARTER_S + np.arange(len(plain.prices), dtype=np.int64), ZONE)
    world = replace(plain, prices=np.where(np.isin(hours, dear), 1500, 1000).astype(np.int64), peak_hours=dear)
    nothing = run(lambda _: Purchase(energy=0, reason="the line serves what the battery does not"), world)
    assert run(POLICIES[name](), world).cost <= nothing.cost
