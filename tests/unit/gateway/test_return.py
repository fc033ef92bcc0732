"""After an outage the town returns in order: public first, then blocks, within the line's limit (C5)."""

import random
from collections.abc import Collection, Mapping
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from commonwatt.energy.physics.cold import COLD_PERCENT, COLD_S
from commonwatt.energy.physics.places import blocks_of
from commonwatt.energy.physics.plant import plant_of
from commonwatt.model.control.return_delay import BLOCK_S, BLOCKS, return_delay_s
from commonwatt.model.control.supply import SupplyState
from commonwatt.town.conditions import Conditions
from commonwatt.town.loading import WHOLE_TOWN, load_town
from commonwatt.town.scenario import load
from commonwatt.town.town import Town
from gateway.control.islanding import Boundary, Sensor, wish
from meter_sim.physics.surroundings import Surroundings
from meter_sim.weather import Weather
from scenarios.simulation import emulated
from utility.supply.simulated.policies import POLICIES

STABLE_S, WITHIN_S = 300, 1800
QUARTER_S, DAY = 900, 1_782_014_400


@pytest.fixture(scope="module")
def town() -> Town:
    return load_town(WHOLE_TOWN)


@pytest.fixture(scope="module")
def delays(town: Town) -> dict[str, int]:
    return {
        name: return_delay_s(name, DAY, is_public=microgrid.kind == "public")
        for name, microgrid in town.microgrids.items()
    }


@pytest.fixture(scope="module")
def mean_w(town: Town) -> dict[str, int]:
    """Each microgrid's mean load over a day of June, watts. Its own sun and batteries are left out: the worst case."""
    blocks = blocks_of(town, town.microgrids.values(), QUARTER_S)
    surroundings = Surroundings(town, blocks, Weather(town.table))
    sums = [np.zeros(len(block.microgrids), dtype=np.int64) for block in blocks]
    for step in range(0, 96, 4):
        for total, inputs in zip(sums, surroundings.at(DAY + step * QUARTER_S), strict=True):
            total += inputs.load.sum(axis=1)
    return {
        name: int(total[row]) * 4 // (24 * 1000)
        for block, total in zip(blocks, sums, strict=True)
        for row, name in enumerate(block.microgrids)
    }


def cold_load_percent(returned_s: int) -> int:
    """A microgrid's load so many seconds after its return, in percent; in the worst case, without energy of its own."""
    if returned_s < 0:
        return 0
    return COLD_PERCENT if returned_s < COLD_S else 100


def peak_w(mean_w: Mapping[str, int], delays: Mapping[str, int], out: Collection[str]) -> int:
    """The town's highest load while ``out`` return, the others being on the grid."""
    rest = sum(load for name, load in mean_w.items() if name not in out)
    return max(
        rest + sum(mean_w[name] * cold_load_percent(time - delays[name]) // 100 for name in out)
        for time in range(0, WITHIN_S + COLD_S + 1, BLOCK_S // 2)
    )


def line_w(town: Town) -> int:
    return plant_of(town, 3600).line[SupplyState.NORMAL] // 1000


def test_the_public_microgrid_is_first_and_all_are_back_within_half_an_hour(delays: dict[str, int]) -> None:
    assert len(delays) == 802
    assert [name for name, delay in delays.items() if delay == 0] == ["pub"]
    assert max(delays.values()) == BLOCKS * BLOCK_S < WITHIN_S
    sizes = np.bincount([delay // BLOCK_S for delay in delays.values() if delay])[1:]
    assert sizes.min() > 0.7 * 801 / BLOCKS
    assert sizes.max() < 1.3 * 801 / BLOCKS


@pytest.mark.parametrize("seed", range(5))
def test_each_switch_closes_at_its_time_and_not_before(delays: dict[str, int], seed: int) -> None:
    name = random.Random(seed).choice(sorted(delays))
    boundary = Boundary()
    for time in range(0, STABLE_S + WITHIN_S + 1, 15):
        boundary = boundary.observe(Sensor(voltage=True, is_open=True, heard=time))
        wanted = wish(boundary, time, commanded=False, isolated=False, stable_s=STABLE_S, delay_s=delays[name])
        assert wanted.is_open is (time < STABLE_S + delays[name])


@pytest.mark.parametrize("policy", ["none", "spec"])
def test_a_run_of_the_storm_with_cold_load_stays_within_the_line(town: Town, policy: str) -> None:
    conditions = Conditions(scenario=load("storm"), zone=ZoneInfo(town.table.timezone), seed=town.table.seed)
    assert 15_000_000 < emulated(town, conditions, POLICIES[policy]).run().highest_w <= line_w(town)


def test_the_whole_town_returns_within_the_line_and_the_town_battery(
    town: Town, mean_w: dict[str, int], delays: dict[str, int]
) -> None:
    peak = peak_w(mean_w, delays, delays.keys())
    battery_w = plant_of(town, 3600).power // 1000
    assert line_w(town) < peak <= line_w(town) + battery_w
    assert peak == pytest.approx(3 * sum(mean_w.values()), rel=0.001), "no order within half an hour changes this"


def test_no_block_brings_more_than_its_part_at_once(mean_w: dict[str, int], delays: dict[str, int]) -> None:
    """With all switches at once the load would rise by three times the mean in a moment."""
    rises = np.zeros(BLOCKS + 1)
    for name, delay in delays.items():
        rises[delay // BLOCK_S] += 3 * mean_w[name]
    assert rises.max() < 0.25 * rises.sum()
