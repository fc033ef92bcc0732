"""After a time without energy a place takes three times its ordinary load for half an hour (C5)."""

import json
from pathlib import Path

import numpy as np
import pytest

from commonwatt.energy.physics.cold import cold_after, cold_load
from commonwatt.energy.physics.places import Places, blocks_of
from commonwatt.town.file import TownFile
from commonwatt.town.loading import town_of
from commonwatt.town.town import Town
from meter_sim.physics.metered import MeteredTown
from meter_sim.physics.microgrid import Circumstances
from meter_sim.world import World

NIGHT = 1_782_016_200  # 0:30 in Boston
DEAD = Circumstances(voltage=False)


@pytest.fixture(scope="module")
def town() -> Town:
    grid = {"id": "r", "kind": "residential", "houses": 2}
    return town_of(TownFile.model_validate({"microgrid": [grid]}), Path("town.toml"))


@pytest.fixture(scope="module")
def places(town: Town) -> Places:
    (block,) = blocks_of(town, town.microgrids.values(), 15)
    return block


def cold_slots(places: Places, slots_without: int) -> int:
    """Return for how many slots a place takes more after so many without energy."""
    ordinary, cold_s = np.full(places.shape, 1000), np.zeros(places.shape, dtype=np.int64)
    for _ in range(slots_without):
        assert (cold_load(places, ordinary, cold_s) == 1000).all()
        cold_s = cold_after(places, ordinary, np.full(places.shape, 499), cold_s)
    taken = []
    for _ in range(500):
        taken.append(int(cold_load(places, ordinary, cold_s)[0, 0]))
        cold_s = cold_after(places, ordinary, np.full(places.shape, 500), cold_s)
    after = taken.count(3000)
    assert taken == [1000, *[3000] * after, *[1000] * (499 - after)], "from the slot after its return, without a gap"
    return after


@pytest.mark.parametrize(("minutes", "cold"), [(0, 0), (5, 5), (30, 30), (600, 30)])
def test_a_place_is_cold_for_as_long_as_it_had_no_energy_but_at_most_half_an_hour(
    places: Places, minutes: int, cold: int
) -> None:
    assert cold_slots(places, minutes * 4) == cold * 4


def test_cold_load_is_at_most_what_the_service_carries(places: Places) -> None:
    cold_s = np.full(places.shape, 60)
    assert (cold_load(places, places.service // 2, cold_s) == places.service).all()
    assert (cold_load(places, places.service + 1, cold_s) == places.service + 1).all(), "the ordinary load is as it was"


def test_a_place_that_loses_its_energy_while_it_is_cold_is_cold_again_after_it(places: Places) -> None:
    ordinary, nothing = np.full(places.shape, 1000), np.zeros(places.shape, dtype=np.int64)
    again = cold_after(places, ordinary, nothing, np.full(places.shape, 600))
    assert (again == -615).all()
    assert (cold_after(places, ordinary, ordinary, again) == 615).all()


def test_emulated_houses_take_three_times_as_much_after_an_outage_also_over_a_restart(town: Town) -> None:
    empty = {meter.id: 0 for meter in town.microgrids["r"].meters if meter.battery}
    physics = MeteredTown(town, town.microgrids.values())
    world, usual = (World(physics, NIGHT, {"r": empty}, {}) for _ in range(2))
    percent: list[int] = []
    logged = ""
    for slot in range(400):
        if slot == 200:
            world = World(physics, world.slot_end, world.levels, {"r": json.loads(logged)["cold"]})
        step = world.step({"r": DEAD if slot < 160 else Circumstances()}).steps["r"]
        logged = json.dumps(step.energy())
        ordinary = sum(usual.step({"r": Circumstances()}).steps["r"].served.values())
        percent.append(round(100 * sum(step.served.values()) / ordinary))
    assert percent == [0] * 160 + [100] + [300] * 120 + [100] * 119
    assert world.cold == {"r": {}}
