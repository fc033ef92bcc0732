"""The physics of microgrids and of a whole town: conservation, boundaries, the plant, the order of supply."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from commonwatt.device.commands import Commanded
from commonwatt.energy.places import Places, blocks_of
from commonwatt.energy.plant import Need, Plant, PlantOrder, PlantStep, plant_of, price_factor, run_plant
from commonwatt.energy.splits import Array
from commonwatt.energy.step import (
    NO_LIMIT_W,
    Boundary,
    Cause,
    Inputs,
    MicrogridsStep,
    PlantInputs,
    step_alone,
    step_town,
)
from commonwatt.model.control import SupplyState
from commonwatt.model.records import RecordType
from commonwatt.model.units import MeterId, MilliwattHours
from commonwatt.town.loading import load_town, town_of
from commonwatt.town.town import Direction, Function, Meter, Microgrid, Town, TownFile
from harness.energy.compare import check, imbalances, town_imbalances
from harness.energy.worlds import Alone
from meter_sim.load import Surroundings, Weather
from meter_sim.physics import Circumstances, PhysicsStep

TOWN_FILE = """
[[microgrid]]
id = "r"
kind = "residential"
houses = 5
[[microgrid]]
id = "apt"
kind = "apartment"
buildings = 3
apartments = 4
[[microgrid]]
id = "pub"
kind = "public"
[[meter]]
microgrid = "r"
id = 777
location = "house 1"
direction = "outgoing"
battery_capacity_mwh = 1000000
record_types = ["stored", "through"]
"""
JUNE_NOON = 1_781_974_800  # 2026-06-20 13:00 in Boston
NIGHT = JUNE_NOON + 12 * 3600
KINDS = ("r", "apt", "pub")
Levels = dict[MeterId, MilliwattHours]


class FullSun(Weather):
    def solar(self, time: int, step_s: int = 15) -> float:
        del time, step_s
        return 1.0


class Dark(Weather):
    def solar(self, time: int, step_s: int = 15) -> float:
        del time, step_s
        return 0.0


@cache
def town() -> Town:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "town.toml"
        path.write_text(TOWN_FILE)
        return load_town(path)


@cache
def physics(kind: str, weather: type[Weather] = Weather, percent: int = 100) -> Alone:
    return Alone(town(), grid(kind), weather(town().table), percent)


def grid(kind: str) -> Microgrid:
    return town().microgrids[kind]


def own_meters(kind: str) -> list[Meter]:
    return [meter for meter in grid(kind).meters if meter.function is not Function.FOREIGN]


def batteries(kind: str) -> list[Meter]:
    return [meter for meter in own_meters(kind) if meter.battery is not None]


def capacity(meter: Meter) -> int:
    assert meter.battery is not None
    return meter.battery.capacity


def minimum(meter: Meter) -> int:
    assert meter.battery is not None
    return -(-capacity(meter) * meter.battery.minimum_percent // 100)


def at_percent(kind: str, *percents: float) -> Levels:
    return {m.id: int(capacity(m) * p / 100) for m, p in zip(batteries(kind), percents, strict=True)}


def boundary(kind: str, direction: Direction) -> Meter:
    return next(m for m in grid(kind).meters if m.function is Function.BOUNDARY and m.direction is direction)


def through(step: PhysicsStep, meter: Meter) -> int:
    return step.readings[meter.id][RecordType.THROUGH]


ISLAND = Commanded(isolated=True)


@st.composite
def cases(draw: st.DrawFn) -> tuple[str, int, Levels, int, dict[MeterId, Commanded]]:
    kind = draw(st.sampled_from(KINDS))
    percent = draw(st.sampled_from([0, 100, 100, 3000]))
    # Ends, minima and their neighbours are where mistakes live.
    levels = {
        m.id: draw(
            st.sampled_from([0, 1, minimum(m) - 1, minimum(m), minimum(m) + 1, capacity(m) - 1, capacity(m)])
            | st.integers(0, capacity(m))
        )
        for m in batteries(kind)
    }
    time = draw(st.integers(0, 40)) * 86_400 * 9 + 1_780_000_005 // 15 * 15 + draw(st.integers(0, 95)) * 900
    command = st.builds(
        Commanded,
        sharing=st.booleans(),
        weight=st.integers(0, 5),
        reducing=st.booleans(),
        isolated=st.sampled_from([False, False, False, True]),
    )
    commanded = draw(st.dictionaries(st.sampled_from([m.id for m in own_meters(kind)]), command))
    return kind, percent, levels, time, commanded


def is_isolated(kind: str, location: str, commanded: dict[MeterId, Commanded]) -> bool:
    return any(
        m.location == location and commanded.get(m.id, Commanded()).isolated
        for m in own_meters(kind)
        if m.function is not Function.BOUNDARY
    )


def check_places(kind: str, levels: Levels, step: PhysicsStep, commanded: dict[MeterId, Commanded]) -> int:
    """Check every place's balance; return what buildings and the farm took in through no meter."""
    unmetered = 0
    for location in dict.fromkeys(m.location for m in own_meters(kind) if m.function is not Function.BOUNDARY):
        meters = {m.direction: m for m in own_meters(kind) if m.location == location}
        outgoing, incoming = meters.get(Direction.OUTGOING), meters.get(Direction.INCOMING)
        supply, out, into = 0, 0, 0
        if outgoing is not None:
            readings = step.readings[outgoing.id]
            assert readings[RecordType.STORED] == step.levels[outgoing.id]
            supply = readings[RecordType.GENERATION] + levels[outgoing.id] - step.levels[outgoing.id]
            out = readings[RecordType.THROUGH]
        if incoming is not None:
            into = through(step, incoming)
            assert not (out and into)
        else:
            # What a building or the farm took in follows from its level, sun and output; the loop's balance checks it.
            into = out - supply
            assert into >= 0
            unmetered += into
        assert supply + into == step.served.get(location, 0) + out
        if is_isolated(kind, location, commanded):
            assert out == into == 0
            assert outgoing is None or outgoing.id not in step.shared
    return unmetered


@settings(max_examples=300, deadline=None)
@given(case=cases())
def test_step_conserves_energy_in_every_place_and_in_the_loop(
    case: tuple[str, int, Levels, int, dict[MeterId, Commanded]],
) -> None:  # req: C4
    kind, percent, levels, time, commanded = case
    step = physics(kind, percent=percent).step(levels, time, commanded)
    unmetered = check_places(kind, levels, step, commanded)
    taken, given = (through(step, boundary(kind, d)) for d in (Direction.INCOMING, Direction.OUTGOING))
    assert taken == 0 or given == 0
    places = [m for m in own_meters(kind) if m.function is not Function.BOUNDARY]
    out = sum(through(step, m) for m in places if m.direction is Direction.OUTGOING)
    into = sum(through(step, m) for m in places if m.direction is Direction.INCOMING)
    assert out + taken == into + unmetered + given
    if any(commanded.get(boundary(kind, d).id, Commanded()).isolated for d in Direction):
        assert taken == given == 0
    assert sum(step.shared.values()) == 0
    assert all(value >= 0 for readings in step.readings.values() for value in readings.values())
    assert all(value > 0 for value in step.unserved.values())


@settings(max_examples=200, deadline=None)
@given(case=cases())
def test_step_reads_every_own_meter_and_repeats_itself(
    case: tuple[str, int, Levels, int, dict[MeterId, Commanded]],
) -> None:
    kind, percent, levels, time, commanded = case
    before = dict(levels), dict(commanded)
    step = physics(kind, percent=percent).step(levels, time, commanded)
    again = Alone(town(), grid(kind), percent=percent)
    assert step == again.step(levels, time, commanded)
    assert (levels, commanded) == before
    assert {m: tuple(r) for m, r in step.readings.items()} == {m.id: m.record_types for m in own_meters(kind)}
    assert set(step.levels) == {m.id for m in batteries(kind)}
    assert all(0 <= step.levels[m.id] <= capacity(m) for m in batteries(kind))


SUNNY_ISLAND = (
    "r",
    100,
    {10001: 28_799_999, 10003: 0, 10005: 7_199_999, 10007: 0, 10009: 0},
    1_783_168_005,
    {10001: Commanded(sharing=True, weight=1), 10011: Commanded(isolated=True)},
)


@settings(max_examples=300, deadline=None)
@given(case=cases())
@example(case=SUNNY_ISLAND)
def test_sharing_keeps_to_the_minima_and_to_commands(
    case: tuple[str, int, Levels, int, dict[MeterId, Commanded]],
) -> None:  # req: C2 M8
    kind, percent, levels, time, commanded = case
    step = physics(kind, percent=percent).step(levels, time, commanded)
    incoming = {meter.location: meter for meter in own_meters(kind) if meter.direction is Direction.INCOMING}
    for meter in batteries(kind):
        moved = step.shared.get(meter.id, 0)
        assert abs(step.levels[meter.id] - levels[meter.id]) <= capacity(meter) // 480
        if moved > 0:
            assert commanded[meter.id].sharing
            assert commanded[meter.id].weight > 0
            assert step.levels[meter.id] >= minimum(meter)
            assert moved <= capacity(meter) // 480
            assert through(step, meter) <= meter.service_amps * 1000
        if moved < 0:
            # What came over its meter besides was the neighbours' sun, which fills a battery further. A building has
            # no such meter: what its battery can take besides is the bound.
            own = incoming.get(meter.location)
            sun = (capacity(meter) // 480 if own is None else through(step, own)) + moved
            assert step.levels[meter.id] <= minimum(meter) + sun
            assert -moved <= capacity(meter) // 480


def test_sharing_brings_a_battery_to_exactly_its_minimum() -> None:
    levels = at_percent("r", 90, 90, 90, 90, 90)
    low = batteries("r")[0]
    levels[low.id] = minimum(low) - 9000
    commanded = {m.id: Commanded(sharing=True) for m in batteries("r")}
    model = physics("r", Dark)
    time = NIGHT
    for _ in range(3):
        step = model.step(levels, time, commanded)
        assert step.levels[low.id] == minimum(low)
        assert step.shared[low.id] < 0
        assert through(step, boundary("r", Direction.INCOMING)) == 0
        levels, time = step.levels, time + 15


def test_sharing_without_command_does_not_happen() -> None:
    assert physics("r", Dark).step(at_percent("r", 5, 90, 90, 90, 90), NIGHT, {}).shared == {}


def test_sharing_follows_weights() -> None:
    a, b, c, low = batteries("r")[1:]
    levels = at_percent("r", 90, 90, 90, 90, 90) | {low.id: minimum(low) - 30_000}
    commanded = {
        a.id: Commanded(sharing=True),
        b.id: Commanded(sharing=True, weight=2),
        c.id: Commanded(sharing=True, weight=0),
    }
    shared = physics("r", Dark, 0).step(levels, NIGHT, commanded).shared
    received = -shared[low.id]
    assert received >= 30_000
    assert shared == {a.id: received // 3, b.id: received - received // 3, low.id: -received}


def test_sharing_leaves_the_own_load_its_power() -> None:
    giver, low = batteries("r")[1:3]
    levels = at_percent("r", 90, 90, 90, 90, 90) | {low.id: 0}
    step = physics("r", Dark, 500).step(levels, NIGHT, {giver.id: Commanded(sharing=True)})
    assert step.served[giver.location] > 5_000
    assert step.shared[giver.id] == capacity(giver) // 480 - step.served[giver.location]


def test_sharing_between_buildings_is_unmetered_where_it_is_received() -> None:
    levels = at_percent("apt", 40, 80, 80)
    first, second, third = batteries("apt")
    commanded = {m.id: Commanded(sharing=True) for m in (second, third)}
    step = physics("apt", Dark).step(levels, NIGHT, commanded)
    assert -step.shared[first.id] == step.shared[second.id] + step.shared[third.id] > 0
    assert through(step, boundary("apt", Direction.INCOMING)) == 0


def test_microgrid_without_the_town_serves_first_from_within_and_sheds_equally() -> None:  # req: C5
    levels = at_percent("apt", 50, 0, 0)
    island = {boundary("apt", Direction.INCOMING).id: ISLAND}
    step = physics("apt", Dark).step(levels, NIGHT, island)
    assert not any(location.startswith("building 1") for location in step.unserved)
    assert len(step.unserved) == 8
    assert physics("apt", Dark).step(levels, NIGHT, {}).unserved == {}


def test_microgrid_without_the_town_curtails_what_nobody_uses() -> None:
    levels = at_percent("r", 100, 100, 100, 100, 100)
    commanded = {boundary("r", Direction.OUTGOING).id: ISLAND}
    island = physics("r", FullSun).step(levels, JUNE_NOON, commanded)
    tied = physics("r", FullSun).step(levels, JUNE_NOON, {})
    generated = [sum(s.readings[m.id][RecordType.GENERATION] for m in batteries("r")) for s in (island, tied)]
    assert generated[1] - generated[0] == through(tied, boundary("r", Direction.OUTGOING)) > 0
    assert through(island, boundary("r", Direction.OUTGOING)) == 0


def test_microgrid_without_voltage_is_an_island_whatever_its_switch() -> None:  # req: C5
    levels = at_percent("apt", 50, 0, 0)
    dead = physics("apt", Dark).step(levels, NIGHT, {}, Circumstances(voltage=False))
    told = physics("apt", Dark).step(levels, NIGHT, {boundary("apt", Direction.INCOMING).id: ISLAND})
    assert dead == told
    assert dead.short == {Cause.ISLAND: sum(dead.unserved.values())}


def test_import_limit_in_watts_reaches_the_boundary_meter() -> None:
    levels = at_percent("apt", 0, 0, 0)
    intake = boundary("apt", Direction.INCOMING)
    limited = physics("apt", Dark).step(levels, NIGHT, {intake.id: Commanded(import_limit_w=1200)})
    assert through(limited, intake) == 5000
    assert limited.short == {Cause.LIMIT: sum(limited.unserved.values())}
    assert limited.energy()["short"] == {"LIMIT": sum(limited.unserved.values())}


def test_a_commanded_limit_at_the_boundary_meter_limits_the_import_and_never_the_export() -> None:  # req: A2
    intake = boundary("r", Direction.INCOMING)
    for percent, light, time, outgoing in ((0, Dark, NIGHT, False), (100, FullSun, JUNE_NOON, True)):
        levels = at_percent("r", *[percent] * 5)
        free = physics("r", light).step(levels, time, {})
        told = physics("r", light).step(levels, time, {intake.id: Commanded(import_limit_w=0)})
        assert through(told, intake) == 0
        assert (through(told, boundary("r", Direction.OUTGOING)) > 0) is outgoing
        if outgoing:
            assert told == free
        else:
            assert told.short == {Cause.LIMIT: sum(told.unserved.values())} == {Cause.LIMIT: through(free, intake)}


def test_isolated_house_lives_from_its_battery_and_then_goes_short() -> None:
    house = batteries("r")[0]
    told = {house.id: ISLAND}
    for percent, short in ((50, False), (0, True)):
        step = physics("r", Dark).step(at_percent("r", percent, 50, 50, 50, 50), NIGHT, told)
        assert (house.location in step.unserved) is short


def test_isolated_building_leaves_its_apartments_to_the_loop() -> None:
    building = batteries("apt")[0]
    step = physics("apt", Dark).step(at_percent("apt", 50, 50, 50), NIGHT, {building.id: ISLAND})
    assert step.unserved == {}
    assert through(step, building) == 0
    assert through(step, boundary("apt", Direction.INCOMING)) > 0


def test_reducing_place_uses_four_fifths_told_at_either_meter() -> None:
    levels = at_percent("r", 50, 50, 50, 50, 50)
    full = physics("r", Dark).step(levels, NIGHT, {}).served
    for meter in (m for m in own_meters("r") if m.location == "house 2"):
        less = physics("r", Dark).step(levels, NIGHT, {meter.id: Commanded(reducing=True)}).served
        assert less["house 2"] == full["house 2"] * 80 // 100
        assert less["house 1"] == full["house 1"]


@pytest.mark.parametrize("kind", KINDS)
def test_battery_fills_in_eight_hours_of_full_sun(kind: str) -> None:  # req: T1
    model = physics(kind, FullSun, 0)
    levels: Levels = {m.id: 0 for m in batteries(kind)}
    for slot in range(8 * 240):
        assert all(levels[m.id] < capacity(m) for m in batteries(kind))
        levels = model.step(levels, JUNE_NOON + 15 * slot, {}).levels
    assert levels == {m.id: capacity(m) for m in batteries(kind)}


def test_full_batteries_send_their_excess_to_the_town() -> None:  # req: C3
    for kind, count in (("r", 5), ("apt", 3), ("pub", 1)):
        step = physics(kind, FullSun).step(at_percent(kind, *[100] * count), JUNE_NOON, {})
        assert through(step, boundary(kind, Direction.OUTGOING)) > 0


def test_farm_serves_hospital_police_and_fire() -> None:  # req: T3
    step = physics("pub", Dark).step(at_percent("pub", 50), NIGHT, {})
    assert through(step, batteries("pub")[0]) == sum(step.served.values()) > 0
    assert through(step, boundary("pub", Direction.INCOMING)) == 0


def test_foreign_meter_is_not_read_and_has_no_part() -> None:
    step = physics("r").step(at_percent("r", 50, 50, 50, 50, 50) | {777: 5}, NIGHT, {777: Commanded(sharing=True)})
    assert 777 not in step.readings
    assert 777 not in step.levels


def test_step_with_an_impossible_level_is_refused() -> None:
    levels = at_percent("r", 50, 50, 50, 50, 50)
    first = batteries("r")[0]
    for wrong in ({first.id: -1}, {first.id: capacity(first) + 1}):
        with pytest.raises(ValueError, match=f"battery of meter {first.id}"):
            physics("r").step(levels | wrong, NIGHT, {})
    with pytest.raises(ValueError, match="is not in"):
        physics("r").step({}, NIGHT, {})


@given(time=st.integers(0, 100_000).map(lambda n: n * 15))
def test_initial_levels_are_three_quarters_with_one_home_low(time: int) -> None:  # req: N1
    levels = physics("r").initial_levels(time)
    percents = sorted(((100 * levels[m.id] / capacity(m), m) for m in batteries("r")), key=lambda pair: pair[0])
    low, home = percents[0]
    assert 22 < low < 28
    assert levels[home.id] < minimum(home)
    assert all(percent > 60 for percent, _ in percents[1:])
    assert 65 < sum(percent for percent, _ in percents) / 5 < 85
    for kind in ("apt", "pub"):
        assert all(60 <= 100 * physics(kind).initial_levels(time)[m.id] / capacity(m) <= 90 for m in batteries(kind))


KWH = 1_000_000
RESIDENTIAL, APARTMENT, PUBLIC = range(3)


@cache
def whole_town(loss_permille: int = 0) -> Town:
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
    return blocks_of(whole_town(loss_permille), whole_town(loss_permille).microgrids.values())


def levels_at(places: Places, percent: int) -> Array:
    return places.capacity * percent // 100


def load_of(places: Places, mwh: int) -> Array:
    return np.where(places.users, mwh, 0) + np.zeros(places.shape, dtype=np.int64)


def quiet(places: Places, mwh: int = 5000, sun: float = 0.0) -> Inputs:
    return Inputs(load=load_of(places, mwh), generation=places.generation(sun))


def boundaries(places: Places, **changes: object) -> Boundary:
    rows = places.shape[0]
    ordinary = {"voltage": True, "closed": True, "import_limit_w": NO_LIMIT_W}
    facts = {name: np.array([value] * rows) for name, value in (ordinary | changes).items()}
    return Boundary(voltage=facts["voltage"], closed=facts["closed"], import_limit_w=facts["import_limit_w"])


def town_step(
    percent: int, told: PlantInputs, plant: Plant | None = None, sun: float = 0.0, mwh: int = 5000
) -> tuple[list[MicrogridsStep], PlantStep]:
    """Step the town, checking its balance."""
    places = blocks()
    levels, inputs = [levels_at(one, percent) for one in places], [quiet(one, mwh, sun) for one in places]
    plant = plant or plant_of(whole_town())
    steps, result = step_town(places, levels, inputs, [boundaries(one) for one in places], plant, told)
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
    for short, long in zip(blocks(), blocks_of(whole_town(), whole_town().microgrids.values(), 900), strict=True):
        assert (long.power == short.power * 60).all()
        assert (long.service == short.service * 60).all()
        assert (abs(long.full_sun - short.full_sun * 60) < 60).all()


@pytest.mark.parametrize("facts", [{"voltage": False}, {"closed": False}, {"voltage": False, "closed": False}])
def test_nothing_passes_without_voltage_or_with_an_open_switch(facts: dict[str, object]) -> None:  # req: C5
    for places in blocks():
        for percent, sun in ((0, 0.0), (100, 1.0)):
            step = step_alone(places, levels_at(places, percent), quiet(places, 100, sun), boundaries(places, **facts))
            assert not step.exchange.imported.any()
            assert not step.exchange.exported.any()
            assert step.exchange.short[Cause.ISLAND].any() == (percent == 0)
            assert step.exchange.spilled[Cause.ISLAND].any() == (percent == 100)


@pytest.mark.parametrize("limit_w", [0, 6000])
def test_import_limit_sheds_equally_and_never_limits_the_export(limit_w: int) -> None:  # req: A8
    places = blocks()[RESIDENTIAL]
    limited = boundaries(places, import_limit_w=limit_w)
    step = step_alone(places, levels_at(places, 0), quiet(places), limited)
    assert step.exchange.imported.tolist() == [limit_w * 1000 // 240] * 4
    assert (step.flows.served == limit_w * 100 // 240).all()
    assert step.exchange.short[Cause.LIMIT].tolist() == [50_000 - limit_w * 1000 // 240] * 4
    sunny = step_alone(places, levels_at(places, 100), quiet(places, 0, 1.0), limited)
    assert (sunny.exchange.exported == places.full_sun.sum(axis=1)).all()


def test_feeder_limits_both_directions_with_its_reason() -> None:
    places = blocks()[RESIDENTIAL]
    step = step_alone(places, levels_at(places, 0), quiet(places, 10**7), boundaries(places))
    assert (step.exchange.imported == places.feeder).all()
    assert (step.exchange.short[Cause.FEEDER] == 10**8 - places.feeder).all()
    sunny = Inputs(load=load_of(places, 0), generation=places.generation(1000.0))
    step = step_alone(places, levels_at(places, 100), sunny, boundaries(places))
    assert (step.exchange.exported == places.feeder).all()
    assert (step.exchange.spilled[Cause.FEEDER] > 0).all()


def test_charging_loses_the_stated_part_and_discharging_nothing() -> None:
    places = blocks(100)[RESIDENTIAL]
    level = levels_at(places, 50)
    charging = step_alone(places, level, quiet(places, 0, 1.0), boundaries(places)).flows
    assert (charging.lost == charging.net // 10).all()
    assert (charging.level - level == charging.net - charging.lost).all()
    assert not step_alone(places, level, quiet(places), boundaries(places)).flows.lost.any()
    full = step_alone(places, places.capacity - 9, quiet(places, 0, 1.0), boundaries(places)).flows
    assert (full.level == places.capacity).all()
    assert (full.net == 9).all()  # of 9 mWh a tenth is less than one


def test_sharing_with_losses_ends_at_the_minimum() -> None:
    places = blocks(100)[RESIDENTIAL]
    level = levels_at(places, 100)
    level[:, 0] = places.minimum[:, 0] - 9000
    inputs = Inputs(load=load_of(places, 0), generation=places.generation(0), weights=np.ones(places.shape, np.int64))
    flows = step_alone(places, level, inputs, boundaries(places)).flows
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
    plant = plant_of(whole_town())
    _, result = town_step(0, PlantInputs(level=plant.capacity))
    assert (result.discharged, result.bought) == (290_000, 0)
    _, result = town_step(0, PlantInputs(level=KWH, order=PlantOrder(keep=KWH)))
    assert (result.discharged, result.needed) == (0, 290_000)
    steps, result = town_step(0, PlantInputs(level=KWH, order=PlantOrder(keep=KWH), supply=SupplyState.EMPTY))
    assert (result.discharged, result.bought) == (15_000, 0)
    assert not steps[PUBLIC].flows.unserved.any()
    assert not steps[RESIDENTIAL].flows.served.any()


def test_surplus_charges_the_town_battery_then_is_sold_and_without_the_line_curtailed() -> None:
    plant = plant_of(whole_town())
    _, empty = town_step(100, PlantInputs(level=0), sun=1.0, mwh=0)
    assert empty.charged > 0
    assert empty.sold == empty.spilled == 0
    _, full = town_step(100, PlantInputs(level=plant.capacity), sun=1.0, mwh=0)
    assert full.sold == min(empty.charged, plant.feed_in)
    steps, dead = town_step(100, PlantInputs(level=plant.capacity, alive=False), sun=1.0, mwh=0)
    assert dead.sold == 0
    assert dead.spilled == sum(int(step.exchange.spilled[Cause.TOWN].sum()) for step in steps) == empty.charged


def test_ordered_purchase_is_cancelled_where_it_finds_no_room() -> None:
    plant = plant_of(whole_town())
    nothing = Need(wanted=0, public=0, offered=0)
    bought = run_plant(plant, 0, nothing, PlantOrder(buy=50_000), SupplyState.NORMAL)
    assert (bought.ordered, bought.level) == (50_000, 50_000)
    nearly = run_plant(plant, plant.capacity - 10, nothing, PlantOrder(buy=50_000), SupplyState.NORMAL)
    assert (nearly.ordered, nearly.level, nearly.sold) == (10, plant.capacity, 0)
    assert (
        run_plant(plant, 0, nothing, PlantOrder(buy=10**12), SupplyState.CRITICAL).ordered
        == plant.line[SupplyState.CRITICAL]
    )
    assert run_plant(plant, 0, nothing, PlantOrder(buy=50_000), SupplyState.NORMAL, alive=False).bought == 0


def test_plant_has_twelve_hours_of_storage_and_a_line_by_supply_state() -> None:  # req: T5 A8
    plant, mean = plant_of(whole_town(), 900), whole_town().average_w * 250
    assert plant.capacity == whole_town().average_w * 12_000
    assert plant.power == 3 * mean
    assert [plant.line[state] for state in SupplyState] == [2 * mean, mean, int(mean * 1.2) // 4, 0]


def test_regional_price_is_half_higher_in_the_local_afternoon() -> None:  # req: T5
    for midnight in (1_768_453_200, 1_784_088_000):  # 15 January and 15 July in Boston
        factors = [price_factor(whole_town(), midnight + hour * 3600) for hour in range(24)]
        assert factors == [1.0] * 15 + [1.5] * 6 + [1.0] * 3


@pytest.mark.parametrize("name", ["r003", "apt", "pub"])
def test_microgrid_in_the_town_is_that_of_the_emulator(name: str) -> None:
    time = 1_781_974_800  # 2026-06-20 13:00 in Boston
    physics = Alone(whole_town(), whole_town().microgrids[name])
    levels = physics.initial_levels(time)
    places = blocks()
    block, row = next((b, one.microgrids.index(name)) for b, one in enumerate(places) if name in one.microgrids)
    inputs = Surroundings(whole_town(), places).at(time)[block]
    batteries = np.flatnonzero(places[block].capacity[row])
    level = levels_at(places[block], 50)
    level[row, batteries] = list(levels.values())
    flows = step_alone(places[block], level, inputs, boundaries(places[block])).flows
    step = physics.step(levels, time, {})
    assert flows.level[row, batteries].tolist() == list(step.levels.values())
    assert flows.served[row, places[block].users].tolist() == list(step.served.values())


def test_quarter_hour_has_the_energy_of_its_slots() -> None:
    start = 1_781_974_800
    short, long = blocks(), blocks_of(whole_town(), whole_town().microgrids.values(), 900)
    by_slot, by_quarter = Surroundings(whole_town(), short), Surroundings(whole_town(), long)
    slots = [by_slot.at(start + 15 * n) for n in range(60)]
    for block, quarter in enumerate(by_quarter.at(start)):
        load, sun = (sum(getattr(slot[block], what) for slot in slots) for what in ("load", "generation"))
        assert quarter.load.sum() == pytest.approx(load.sum(), rel=0.003)
        assert quarter.generation.sum() == pytest.approx(sun.sum(), rel=0.002)
