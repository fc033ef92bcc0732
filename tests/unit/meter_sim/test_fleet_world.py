"""What surrounds the meters of a fleet: the physics' time, timers, failures."""

import random
from pathlib import Path

import pytest

from commonwatt.device.timers import Timers
from commonwatt.town.loading import load_town
from commonwatt.town.town import Microgrid, Town
from meter_sim.physics.metered import MeteredTown
from meter_sim.physics.microgrid import Circumstances
from meter_sim.truth import Slot
from meter_sim.world import MAX_CATCH_UP_S, Failures, World, levels_after

T = 1_790_000_100


@pytest.fixture
def town(tmp_path: Path) -> Town:
    (tmp_path / "town.toml").write_text('[[microgrid]]\nid = "r"\nkind = "residential"\nhouses = 2\n')
    return load_town(tmp_path / "town.toml")


def world(town: Town, slot: Slot | None) -> World:
    microgrid: Microgrid = town.microgrids["r"]
    physics = MeteredTown(town, [microgrid])
    initial = physics.microgrids["r"].initial_levels(T)
    return World(physics, T if slot is None else slot.slot_end, {"r": levels_after(slot, microgrid, initial)}, {})


def stepped(world: World) -> Slot:
    world.step({"r": Circumstances()})
    return Slot(world.slot_end, world.levels["r"])


def test_a_world_goes_on_from_its_last_slot(town: Town) -> None:
    first = world(town, None)
    slot = stepped(first)
    assert slot.slot_end == T + 15
    assert stepped(world(town, slot)) == stepped(first)


def test_batteries_of_a_changed_town_file_are_new_or_full_at_most(town: Town) -> None:
    meters = [meter for meter in town.microgrids["r"].meters if meter.battery]
    changed = world(town, Slot(T, {meters[0].id: 10**12, 99: 5})).levels["r"]
    assert meters[0].battery is not None
    assert changed[meters[0].id] == meters[0].battery.capacity
    assert set(changed) == {meter.id for meter in meters}


def test_an_outgoing_meter_without_a_battery_goes_on_from_its_last_slot(tmp_path: Path) -> None:
    (tmp_path / "town.toml").write_text('[town]\nplaces = "places.csv"\n')
    (tmp_path / "places.csv").write_text(
        "microgrid,number,kind,place,function,building,account,outgoing,incoming,amps,battery_mwh,minimum,push\n"
        "r,1,residential,house 1,house,,1,10001,10002,200,28800000,50,yes\n"
        "r,1,residential,house 2,house,,2,10003,10004,200,,,yes\n"
        "r,1,residential,boundary,boundary,,0,10005,10006,4000,,,yes\n"
    )
    town = load_town(tmp_path / "town.toml")
    assert stepped(world(town, stepped(world(town, None)))).levels[10003] == 0


def test_a_long_stop_is_not_stepped_through_whole(town: Town) -> None:
    old = world(town, Slot(T - 10 * MAX_CATCH_UP_S, {}))
    old.skip_to(T + 7)
    assert old.slot_end == T - MAX_CATCH_UP_S
    old.skip_to(T)
    assert old.slot_end == T - MAX_CATCH_UP_S


def test_timers_are_due_in_order_and_once() -> None:
    timers = Timers()
    for meter, at in ((1, 30.0), (2, 10.0), (3, 20.0), (4, None)):
        timers.set(meter, at)
    timers.set(2, 25.0)
    timers.set(2, 25.0)
    assert timers.next == 20.0
    assert timers.due(25.0) == [3, 2]
    assert timers.due(25.0) == []
    timers.set(1, None)
    assert timers.next is None


def test_meters_fail_as_often_as_asked_for_ten_to_fifteen_seconds() -> None:
    failures = Failures(4.0, random.Random(1))
    times = [failures.next_after(0.0) for _ in range(2000)]
    assert sum(time for time in times if time is not None) / 2000 == pytest.approx(21_600, rel=0.1)
    assert all(10 <= failures.duration_s() < 15 for _ in range(100))
    assert Failures(0.0, random.Random(1)).next_after(0.0) is None
