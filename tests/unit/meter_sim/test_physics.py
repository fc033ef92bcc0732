from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from commonwatt.device.commands.desired_states import Commanded
from commonwatt.energy.physics.boundary import Cause
from commonwatt.model.ids import MeterId
from commonwatt.model.records import RecordType
from commonwatt.model.units import MilliwattHours
from commonwatt.town.loading import load_town
from commonwatt.town.town import Direction, Function, Meter, Microgrid, Town
from harness.energy.alone import Alone
from meter_sim.physics.microgrid import Circumstances, Step
from meter_sim.weather import Weather

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


def through(step: Step, meter: Meter) -> int:
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


def check_places(kind: str, levels: Levels, step: Step, commanded: dict[MeterId, Commanded]) -> int:
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
