"""The physics of a whole town: its reference, conservation, boundaries, the plant, the order of supply."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from commonwatt.energy.physics.boundary import NO_LIMIT_W, Boundary, Cause
from commonwatt.energy.physics.places import Places, blocks_of
from commonwatt.energy.physics.plant import Need, Order, Plant, PlantStep, plant_of, price_factor, run_plant
from commonwatt.energy.physics.step import Inputs
from commonwatt.energy.physics.town import MicrogridsStep, PlantInputs, step_alone, step_town
from commonwatt.model.control.supply import SupplyState
from commonwatt.settlement.splits import Array
from commonwatt.town.file import TownFile
from commonwatt.town.loading import town_of
from commonwatt.town.town import Town
from harness.energy.alone import Alone
from harness.energy.compare import check, imbalances, town_imbalances
from meter_sim.physics.surroundings import Surroundings

KWH = 1_000_000
RESIDENTIAL, APARTMENT, PUBLIC = range(3)


@cache
def town(loss_permille: int = 0) -> Town:
    file = {
        "town": {"charging_loss_permille": loss_permille},
        "microgrid": [
            {"id": "r", "kind": "residential", "count": 4},
            {"id": "apt", "kind": "apartment", "apartments": 5},
            {"id": "pub", "kind": "public"},
        ],
    }
    return town_of(TownFile.model_validate(file), Path("town.toml"))


def blocks(loss_permille: int = 0) -> list[Places]:
    return blocks_of(town(loss_permille), town(loss_permille).microgrids.values())


def at_percent(places: Places, percent: int) -> Array:
    return places.capacity * percent // 100


def load_of(places: Places, mwh: int) -> Array:
    return np.where(places.users, mwh, 0) + np.zeros(places.shape, dtype=np.int64)


def quiet(places: Places, mwh: int = 5000, sun: float = 0.0) -> Inputs:
    return Inputs(load=load_of(places, mwh), generation=places.generation(sun))


def boundary(places: Places, **changes: object) -> Boundary:
    rows = places.shape[0]
    ordinary = {"voltage": True, "closed": True, "import_limit_w": NO_LIMIT_W}
    facts = {name: np.array([value] * rows) for name, value in (ordinary | changes).items()}
    return Boundary(voltage=facts["voltage"], closed=facts["closed"], import_limit_w=facts["import_limit_w"])


def town_step(
    percent: int, told: PlantInputs, plant: Plant | None = None, sun: float = 0.0, mwh: int = 5000
) -> tuple[list[MicrogridsStep], PlantStep]:
    """Step the town, checking its balance."""
    places = blocks()
    levels, inputs = [at_percent(one, percent) for one in places], [quiet(one, mwh, sun) for one in places]
    plant = plant or plant_of(town())
    steps, result = step_town(places, levels, inputs, [boundary(one) for one in places], plant, told)
    assert town_imbalances(plant, told, steps, result) == []
    for one, level, asked, step in zip(places, levels, inputs, steps, strict=True):
        assert imbalances(one, level, asked, step) == []
    return steps, result


@pytest.mark.parametrize("seed", range(40))
def test_random_towns_conserve_energy_and_equal_the_reference(seed: int) -> None:
    assert check(seed, 25) == []


def test_town_has_one_array_for_each_layout() -> None:
    assert [one.shape for one in blocks()] == [(4, 10), (1, 18), (1, 4)]
    assert [one.kind for one in blocks()] == ["residential", "apartment", "public"]
    assert blocks()[RESIDENTIAL].microgrids == ("r001", "r002", "r003", "r004")


def test_longer_step_has_limits_in_proportion() -> None:
    for short, long in zip(blocks(), blocks_of(town(), town().microgrids.values(), 900), strict=True):
        assert (long.power == short.power * 60).all()
        assert (long.service == short.service * 60).all()
        assert (abs(long.full_sun - short.full_sun * 60) < 60).all()


@pytest.mark.parametrize("facts", [{"voltage": False}, {"closed": False}, {"voltage": False, "closed": False}])
def test_nothing_passes_without_voltage_or_with_an_open_switch(facts: dict[str, object]) -> None:  # req: C5
    for places in blocks():
        for percent, sun in ((0, 0.0), (100, 1.0)):
            step = step_alone(places, at_percent(places, percent), quiet(places, 100, sun), boundary(places, **facts))
            assert not step.exchange.imported.any()
            assert not step.exchange.exported.any()
            assert step.exchange.short[Cause.ISLAND].any() == (percent == 0)
            assert step.exchange.spilled[Cause.ISLAND].any() == (percent == 100)


@pytest.mark.parametrize("limit_w", [0, 6000])
def test_import_limit_sheds_equally_and_never_limits_the_export(limit_w: int) -> None:  # req: A8
    places = blocks()[RESIDENTIAL]
    limited = boundary(places, import_limit_w=limit_w)
    step = step_alone(places, at_percent(places, 0), quiet(places), limited)
    assert step.exchange.imported.tolist() == [limit_w * 1000 // 240] * 4
    assert (step.flows.served == limit_w * 100 // 240).all()
    assert step.exchange.short[Cause.LIMIT].tolist() == [50_000 - limit_w * 1000 // 240] * 4
    sunny = step_alone(places, at_percent(places, 100), quiet(places, 0, 1.0), limited)
    assert (sunny.exchange.exported == places.full_sun.sum(axis=1)).all()


def test_feeder_limits_both_directions_with_its_reason() -> None:
    places = blocks()[RESIDENTIAL]
    step = step_alone(places, at_percent(places, 0), quiet(places, 10**7), boundary(places))
    assert (step.exchange.imported == places.feeder).all()
    assert (step.exchange.short[Cause.FEEDER] == 10**8 - places.feeder).all()
    sunny = Inputs(load=load_of(places, 0), generation=places.generation(1000.0))
    step = step_alone(places, at_percent(places, 100), sunny, boundary(places))
    assert (step.exchange.exported == places.feeder).all()
    assert (step.exchange.spilled[Cause.FEEDER] > 0).all()


def test_charging_loses_the_stated_part_and_discharging_nothing() -> None:
    places = blocks(100)[RESIDENTIAL]
    level = at_percent(places, 50)
    charging = step_alone(places, level, quiet(places, 0, 1.0), boundary(places)).flows
    assert (charging.lost == charging.net // 10).all()
    assert (charging.level - level == charging.net - charging.lost).all()
    assert not step_alone(places, level, quiet(places), boundary(places)).flows.lost.any()
    full = step_alone(places, places.capacity - 9, quiet(places, 0, 1.0), boundary(places)).flows
    assert (full.level == places.capacity).all()
    assert (full.net == 9).all()  # of 9 mWh a tenth is less than one


def test_sharing_with_losses_ends_at_the_minimum() -> None:
    places = blocks(100)[RESIDENTIAL]
    level = at_percent(places, 100)
    level[:, 0] = places.minimum[:, 0] - 9000
    inputs = Inputs(load=load_of(places, 0), generation=places.generation(0), weights=np.ones(places.shape, np.int64))
    flows = step_alone(places, level, inputs, boundary(places)).flows
    assert (flows.level[:, 0] == places.minimum[:, 0]).all()
    assert (flows.received.sum(axis=1) == 9999).all()
    assert (flows.lost.sum(axis=1) == 999).all()


def test_town_supplies_public_services_then_apartments_then_houses() -> None:  # req: U5 P5
    for line, fed in ((15_000, 1), (70_000, 2), (200_000, 3)):
        plant = Plant(capacity=0, power=0, loss_permille=0, line=dict.fromkeys(SupplyState, line), feed_in=0)
        steps, result = town_step(0, PlantInputs(level=0), plant)
        assert result.needed == line
        served = [steps[block].flows.served.any() for block in (PUBLIC, APARTMENT, RESIDENTIAL)]
        assert served == [True] * fed + [False] * (3 - fed)
        houses = steps[RESIDENTIAL].flows.served
        assert houses.max() - houses.min() <= 1
        assert result.short == 5000 * (3 + 15 + 40) - line


def test_town_battery_serves_before_the_line_and_keeps_the_reserve_for_the_public() -> None:
    plant = plant_of(town())
    _, result = town_step(0, PlantInputs(level=plant.capacity))
    assert (result.discharged, result.bought) == (290_000, 0)
    _, result = town_step(0, PlantInputs(level=KWH, order=Order(keep=KWH)))
    assert (result.discharged, result.needed) == (0, 290_000)
    steps, result = town_step(0, PlantInputs(level=KWH, order=Order(keep=KWH), supply=SupplyState.EMPTY))
    assert (result.discharged, result.bought) == (15_000, 0)
    assert not steps[PUBLIC].flows.unserved.any()
    assert not steps[RESIDENTIAL].flows.served.any()


def test_surplus_charges_the_town_battery_then_is_sold_and_without_the_line_curtailed() -> None:
    plant = plant_of(town())
    _, empty = town_step(100, PlantInputs(level=0), sun=1.0, mwh=0)
    assert empty.charged > 0
    assert empty.sold == empty.spilled == 0
    _, full = town_step(100, PlantInputs(level=plant.capacity), sun=1.0, mwh=0)
    assert full.sold == min(empty.charged, plant.feed_in)
    steps, dead = town_step(100, PlantInputs(level=plant.capacity, alive=False), sun=1.0, mwh=0)
    assert dead.sold == 0
    assert dead.spilled == sum(int(step.exchange.spilled[Cause.TOWN].sum()) for step in steps) == empty.charged


def test_ordered_purchase_is_cancelled_where_it_finds_no_room() -> None:
    plant = plant_of(town())
    nothing = Need(wanted=0, public=0, offered=0)
    bought = run_plant(plant, 0, nothing, Order(buy=50_000), SupplyState.NORMAL)
    assert (bought.ordered, bought.level) == (50_000, 50_000)
    nearly = run_plant(plant, plant.capacity - 10, nothing, Order(buy=50_000), SupplyState.NORMAL)
    assert (nearly.ordered, nearly.level, nearly.sold) == (10, plant.capacity, 0)
    assert (
        run_plant(plant, 0, nothing, Order(buy=10**12), SupplyState.CRITICAL).ordered
        == plant.line[SupplyState.CRITICAL]
    )
    assert run_plant(plant, 0, nothing, Order(buy=50_000), SupplyState.NORMAL, alive=False).bought == 0


def test_plant_has_twelve_hours_of_storage_and_a_line_by_supply_state() -> None:  # req: T5 A8
    plant, mean = plant_of(town(), 900), town().average_w * 250
    assert plant.capacity == town().average_w * 12_000
    assert plant.power == 3 * mean
    assert [plant.line[state] for state in SupplyState] == [2 * mean, mean, int(mean * 1.2) // 4, 0]


def test_regional_price_is_half_higher_in_the_local_afternoon() -> None:  # req: T5
    for midnight in (1_768_453_200, 1_784_088_000):  # 15 January and 15 July in Boston
        factors = [price_factor(town(), midnight + hour * 3600) for hour in range(24)]
        assert factors == [1.0] * 15 + [1.5] * 6 + [1.0] * 3


@pytest.mark.parametrize("name", ["r003", "apt", "pub"])
def test_microgrid_in_the_town_is_that_of_the_emulator(name: str) -> None:
    time = 1_781_974_800  # 2026-06-20 13:00 in Boston
    physics = Alone(town(), town().microgrids[name])
    levels = physics.initial_levels(time)
    places = blocks()
    block, row = next((b, one.microgrids.index(name)) for b, one in enumerate(places) if name in one.microgrids)
    inputs = Surroundings(town(), places).at(time)[block]
    batteries = np.flatnonzero(places[block].capacity[row])
    level = at_percent(places[block], 50)
    level[row, batteries] = list(levels.values())
    flows = step_alone(places[block], level, inputs, boundary(places[block])).flows
    step = physics.step(levels, time, {})
    assert flows.level[row, batteries].tolist() == list(step.levels.values())
    assert flows.served[row, places[block].users].tolist() == list(step.served.values())


def test_quarter_hour_has_the_energy_of_its_slots() -> None:
    start = 1_781_974_800
    short, long = blocks(), blocks_of(town(), town().microgrids.values(), 900)
    by_slot, by_quarter = Surroundings(town(), short), Surroundings(town(), long)
    slots = [by_slot.at(start + 15 * n) for n in range(60)]
    for block, quarter in enumerate(by_quarter.at(start)):
        load, sun = (sum(getattr(slot[block], what) for slot in slots) for what in ("load", "generation"))
        assert quarter.load.sum() == pytest.approx(load.sum(), rel=0.003)
        assert quarter.generation.sum() == pytest.approx(sun.sum(), rel=0.002)
