"""What happens to running meters: the physics' time, failures, what a person does, and the boundary switch."""

import json
import random
from collections.abc import Iterable
from datetime import datetime
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from commonwatt.device.meter import Timers
from commonwatt.device.store import reading_store
from commonwatt.model.control import BLOCK_S, BLOCKS, STABLE_S, UNMANAGED_S, SupplyState, return_delay_s
from commonwatt.model.effects import Publish
from commonwatt.model.records import RecordType, State
from commonwatt.protocol.commands import HeldState
from commonwatt.protocol.topics import RECORDS, meter_up
from commonwatt.runtime.clock import Clock, save_clock
from commonwatt.town.loading import load_town
from commonwatt.town.scenario import Demand
from commonwatt.town.scenario import load as load_scenario
from commonwatt.town.town import Microgrid, Town
from harness.surroundings.fleet import NAMES, FleetBench, T
from meter_sim import meters as backup_module
from meter_sim.cli import app
from meter_sim.faults import (
    BoundarySwitch,
    Factor,
    Faults,
    FaultsFile,
    KeptSwitch,
    MeterFault,
    Shortage,
    load,
    path_of,
    save,
)
from meter_sim.fleet import Fleet
from meter_sim.meters import RUNS_S, Backup
from meter_sim.physics import Circumstances, MeteredTown
from meter_sim.store import Slot, true_events
from meter_sim.world import MAX_CATCH_UP_S, Failures, FleetWorld, OutsideWorld, levels_after

START_S = 1_790_000_100


@pytest.fixture
def town(tmp_path: Path) -> Town:
    (tmp_path / "town.toml").write_text('[[microgrid]]\nid = "r"\nkind = "residential"\nhouses = 2\n')
    return load_town(tmp_path / "town.toml")


def world(town: Town, slot: Slot | None) -> FleetWorld:
    microgrid: Microgrid = town.microgrids["r"]
    physics = MeteredTown(town, [microgrid])
    initial = physics.microgrids["r"].initial_levels(START_S)
    return FleetWorld(
        physics, START_S if slot is None else slot.slot_end, {"r": levels_after(slot, microgrid, initial)}, {}
    )


def stepped(world: FleetWorld) -> Slot:
    world.step({"r": Circumstances()})
    return Slot(world.slot_end, world.levels["r"])


def test_a_world_goes_on_from_its_last_slot(town: Town) -> None:
    first = world(town, None)
    slot = stepped(first)
    assert slot.slot_end == START_S + 15
    assert stepped(world(town, slot)) == stepped(first)


def test_batteries_of_a_changed_town_file_are_new_or_full_at_most(town: Town) -> None:
    meters = [meter for meter in town.microgrids["r"].meters if meter.battery]
    changed = world(town, Slot(START_S, {meters[0].id: 10**12, 99: 5})).levels["r"]
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
    old = world(town, Slot(START_S - 10 * MAX_CATCH_UP_S, {}))
    old.skip_to(START_S + 7)
    assert old.slot_end == START_S - MAX_CATCH_UP_S
    old.skip_to(START_S)
    assert old.slot_end == START_S - MAX_CATCH_UP_S


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


BATTERY, OTHER, INTAKE = 10_001, 10_003, 10_002
"""Meters of r001: of its batteries, and of what the first house takes in."""
ALWAYS = 2**40


@pytest.fixture
def bench(tmp_path: Path) -> FleetBench:
    return FleetBench(tmp_path)


def of(bench: FleetBench, meter: int, kind: RecordType) -> list[int]:
    return [reading for _, one, each, reading in bench.records("r001") if (one, each) == (meter, kind)]


def test_a_frozen_meter_repeats_itself_and_a_lying_one_is_off_while_energy_flows_as_before(bench: FleetBench) -> None:
    faults = {
        "10001": MeterFault(what="frozen", until=T + 45),
        "10003": MeterFault(what="lying", until=T + 30, by_mwh=-7000),
    }
    faults["10002"] = MeterFault(what="lying", until=T + 30, by_mwh=5000)
    save(bench.faults, Faults(meters=faults))
    with bench.fleet() as fleet:
        levels = []
        for _ in range(4):
            bench.slots(fleet, 1)
            levels.append(dict(fleet._world.levels["r001"]))
    told = of(bench, BATTERY, RecordType.STORED)
    assert told[0] == told[1] == told[2] != told[3]
    resolution = 100
    true = [level[OTHER] // resolution * resolution for level in levels]
    assert [told - true for told, true in zip(of(bench, OTHER, RecordType.STORED), true, strict=True)] == pytest.approx(
        [-7000, -7000, 0, 0], abs=resolution
    )
    taken = of(bench, INTAKE, RecordType.THROUGH)
    assert taken[0] >= 5000 > taken[2]


def test_silent_meters_measure_and_are_connected_again(bench: FleetBench) -> None:
    save(bench.faults, Faults(meters={"10001": MeterFault(what="silent", until=T + 30)}, lte_dead_until=T + 15))
    with bench.fleet() as fleet:
        meters = fleet.members["r001"]
        paused = []
        for _ in range(3):
            bench.slots(fleet, 1)
            links = [(meter, each["r001"]) for meter, each in meters._shell.links.items()]
            paused.append({meter for meter, link in links if not link._paused_until_resume.is_set()})
        assert paused == [set(meters.meters), {BATTERY}, set()]
    assert len(of(bench, BATTERY, RecordType.STORED)) == 3


def test_a_lossy_network_loses_a_third_of_the_messages_either_way_until_its_end(bench: FleetBench) -> None:
    save(bench.faults, Faults(lte_lossy_until=T + 30))
    with bench.fleet() as fleet:
        bench.slots(fleet, 1)
        shell = fleet.members["r001"]._shell
        for _ in range(900):
            shell._message(BATTERY, "r001", "x/down", b"")
        assert 250 < shell.dropped < 350
        assert len(shell.take()) == 900 - shell.dropped
        before = shell.dropped
        for _ in range(900):
            shell._publish(Publish(topic=meter_up("r001", BATTERY, RECORDS), payload=b"", qos=0))
        assert 250 < shell.dropped - before < 350
        bench.slots(fleet, 2)
        assert not any(shell.loses() for _ in range(100))


def test_clouds_and_demand_of_one_microgrid_and_of_all(bench: FleetBench) -> None:
    noon = T + 14 * 3600
    bench.clock.time = noon + 2.0
    with bench.fleet() as fleet:
        bench.slots(fleet, 1)
        before = {name: fleet.power(name) for name in NAMES}
        end = noon + 60
        save(bench.faults, Faults(sun=Factor(percent=50, until=end), demand=Factor(percent=200, until=end)))
        save(bench.path / "r001.db.world.json", Faults(sun=Factor(percent=50, until=end)))
        bench.slots(fleet, 1)
        after = {name: fleet.power(name) for name in NAMES}
    share = {name: after[name].sun_w / before[name].sun_w for name in NAMES}
    assert share == pytest.approx({"r001": 0.25, "r002": 0.5, "pub": 0.5}, rel=0.01)
    assert after["pub"].load_w == pytest.approx(2 * before["pub"].load_w, rel=0.1)


def test_a_scenario_is_played_from_the_present_hour_on(bench: FleetBench) -> None:
    scenario = load_scenario("storm").model_copy(
        update={"start": datetime.fromtimestamp(T, ZONE).date(), "start_hour": 22}
    )
    save(bench.faults, Faults(scenario=scenario))
    world = OutsideWorld(bench.town, FaultsFile(bench.faults))
    hours = range(73)
    dead = {name: [h for h in hours if not world.around(name, T + h * 3600).voltage] for name in NAMES}
    # One of two residential microgrids, for twelve hours from hour 36 on.
    assert sorted(dead.values()) == [[], [], list(range(36, 48))]
    assert dead["pub"] == []
    noon = T + 14 * 3600
    assert world.weather(noon).clouds(noon) < 1.0
    assert world.weather(T + 80 * 3600) is world._weather, "it has ended"
    assert world.region(T).supply is SupplyState.NORMAL


def percents(bench: FleetBench, fleet: Fleet, name: str) -> list[float]:
    """Return the levels of a microgrid's batteries, percent."""
    levels = fleet._world.levels[name]
    return [100 * levels[m.id] / m.battery.capacity for m in bench.town.microgrids[name].meters if m.battery]


def test_a_scenarios_levels_demand_and_falling_homes_are_played(bench: FleetBench) -> None:  # req: N1, N2
    day = datetime.fromtimestamp(T, ZONE)
    evening = T + (24 + 17 - day.hour) * 3600
    scenario = load_scenario("normal").model_copy(
        update={
            "start": day.date(),
            "start_hour": 0,
            "level_percent": 50,
            "demand": (Demand(of="house", percent=50), Demand(of="public", percent=200)),
        }
    )
    save(bench.faults, Faults(scenario=scenario))
    world = OutsideWorld(bench.town, FaultsFile(bench.faults))
    assert [world.around(name, T).demand_percent for name in NAMES] == [50, 50, 200]
    bench.clock.time = evening + 2 * 3600.0
    with bench.fleet() as fleet:
        assert fleet.plant is not None
        town = fleet.town_figures().plant
        assert town is not None
        assert town.level == fleet.plant.physical.capacity // 2
        assert all(40 <= percent <= 60 for name in ("r001", "r002") for percent in percents(bench, fleet, name))
        while fleet.slot_end < evening + 3 * 3600:
            fleet._step(measured=False)
        fallen = [[percent <= 26 for percent in percents(bench, fleet, name)] for name in ("r001", "r002")]
        assert fallen == [[False, True], [True, False]], "on the second day, the next home of each"


def test_the_regional_grid_follows_faults_and_the_scenario(bench: FleetBench) -> None:
    save(
        bench.faults,
        Faults(line_dead_until=T + 15, supply=Shortage(state=SupplyState.CRITICAL, until=T + 30)),
    )
    world = OutsideWorld(bench.town, FaultsFile(bench.faults))
    found = [world.region(T + at) for at in (0, 15, 30)]
    assert [one.line_alive for one in found] == [False, True, True]
    assert [one.supply for one in found] == [SupplyState.CRITICAL, SupplyState.CRITICAL, SupplyState.NORMAL]
    assert [world.price_permille(T + hour * 3600) for hour in (0, 18)] == [1000, 1500]
    with bench.fleet() as fleet:
        bench.slots(fleet, 1)
        plant = fleet.town_figures().plant
        assert plant is not None
        assert (plant.voltage, plant.supply) == (False, SupplyState.CRITICAL)


ZONE = ZoneInfo("America/New_York")


# A meter's own battery (T9).


def test_a_meter_runs_48_hours_without_voltage(bench: FleetBench) -> None:  # req: T9
    backup = Backup({})
    assert backup.step(T, {1, 2})
    assert not backup.step(T + 15, {1, 2})
    assert backup.dead(T + RUNS_S - 15) == frozenset()
    assert backup.dead(T + RUNS_S) == {1, 2}
    assert backup.step(T + RUNS_S, {2}), "the voltage is back at one of them"
    assert backup.dead(T + RUNS_S) == {2}
    assert Backup(backup.since).dead(T + RUNS_S) == {2}, "a restart changes nothing"


def test_a_dead_meter_returns_with_the_voltage_and_its_log_says_so(
    bench: FleetBench, monkeypatch: pytest.MonkeyPatch
) -> None:  # req: T9
    monkeypatch.setattr(backup_module, "RUNS_S", 60)
    noon = T + 14 * 3600
    bench.clock.time = noon + 2.0
    save(bench.faults, Faults(feeder_dead_until=ALWAYS, sun=Factor(percent=0, until=noon + 150)))
    with bench.fleet() as fleet:
        fleet._world.levels = {name: dict.fromkeys(levels, 0) for name, levels in fleet._world.levels.items()}
        bench.slots(fleet, 3)
    # A restart does not begin the time anew.
    with bench.fleet() as fleet:
        bench.slots(fleet, 7)
        assert {reading for _, meter, _, reading in bench.records("r001") if meter == INTAKE} == {0}
        assert fleet.members["r001"].tally["failure", "battery_empty"] == 6
        assert fleet.figures("r001").dark, "its controller's battery is empty, too"
        bench.slots(fleet, 2)
        assert not fleet.figures("r001").dark
    # It ran for 60 s in the dark. The sun is back in the slot that ends at noon + 165.
    for name in NAMES:
        assert [end - noon for end in bench.ends(name)] == [15, 30, 45, 60, 165, 180]
    records = bench.records("r001")
    assert len({record[:3] for record in records}) == len(records), "no reading is counted twice"
    with reading_store(bench.path / "r001.db") as store:
        events = [(e.new_state, e.time - noon) for _, e in true_events(store) if e.meter_id == BATTERY]
    assert events == [(State.INITIALIZED, 2), (0, 60), (State.INITIALIZED, 165)]


# The commands.


def run(*words: str) -> str:
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """The file of one microgrid, and of all with the plant."""
    (tmp_path / "town.toml").write_text(FleetBench(tmp_path).path.joinpath("town.toml").read_text())
    save_clock(tmp_path / "clock.json", Clock(origin=T, monotonic_origin=2**31, speed=1))
    common = 'clock = "clock.json"\n'
    (tmp_path / "one.toml").write_text(f'[meters]\nmicrogrid = "r001"\n{common}')
    (tmp_path / "all.toml").write_text(f'[meters]\nmicrogrids = ["r001", "r002", "pub"]\n{common}plant = {{}}\n')
    return str(tmp_path / "one.toml"), str(tmp_path / "all.toml")


def test_commands_change_one_fault_each_and_say_what_holds_until_when(files: tuple[str, str], tmp_path: Path) -> None:
    one, every = files
    assert "the feeder of r001 is dead until 2026-06-2" in run("feeder", "dead", "--for", "3600", "-c", one)
    run("weather", "15", "-c", one)
    run("meter", "10001", "lying", "--by-wh", "-2000", "--for", "900", "-c", one)
    found = load(tmp_path / "meters.db.world.json")
    assert found.feeder_dead_until == T + 3600
    assert found.sun == Factor(percent=15, until=T + 43_200)
    assert found.meters == {"10001": MeterFault(what="lying", until=T + 900, by_mwh=-2_000_000)}
    run("meter", "10001", "well", "-c", one)
    assert load(tmp_path / "meters.db.world.json").meters == {}
    assert "the regional line is dead until" in run("line", "dead", "-c", every)
    assert "the regional supply is EMPTY" in run("supply", "EMPTY", "-c", every)
    run("lte", "dead", "-c", every)
    assert "use 200 % of their ordinary load" in run("demand", "200", "-c", every)
    assert "left out: outages of broadband" in run("play", "storm", "-c", every)
    found = load(tmp_path / "all.toml.world.json")
    assert (found.line_dead_until, found.lte_dead_until) == (T + 43_200, T + 3600)
    assert found.scenario is not None
    assert found.scenario.start_hour == 22
    run("lte", "lossy", "--for", "60", "-c", every)
    found = load(tmp_path / "all.toml.world.json")
    assert (found.lte_dead_until, found.lte_lossy_until) == (0, T + 60)
    run("lte", "alive", "-c", every)
    assert load(tmp_path / "all.toml.world.json").lte_lossy_until == 0
    run("play", "--stop", "-c", every)
    assert load(tmp_path / "all.toml.world.json").scenario is None


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("line", "dead", "-c", "one"), "has no plant; name the file with [meters.plant]"),
        (("supply", "LOW", "-c", "one"), "has no plant"),
        (("meter", "5", "frozen", "-c", "one"), "5 is no emulated meter of r001; such as 10001, 10002"),
        (("meter", "10001", "lying", "-c", "one"), "lying needs --by-wh"),
        (("meter", "10001", "frozen", "--by-wh", "3", "-c", "one"), "lying needs --by-wh"),
        (("play", "-c", "all"), "give a scenario, such as storm, or --stop"),
        (("play", "strom", "-c", "all"), "strom: no scenario and no file; there are: change"),
        (("dump", "-c", "all"), "is of several microgrids; name the file of one, such as"),
    ],
)
def test_mistakes_are_told(files: tuple[str, str], words: tuple[str, ...], told: str) -> None:
    one, every = files
    result = CliRunner().invoke(app, [{"one": one, "all": every}.get(word, word) for word in words])
    assert result.exit_code == 2
    assert told in result.output.replace("\n", "")


def test_a_wrong_file_is_replaced_by_the_next_command(files: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "meters.db.world.json").write_text(json.dumps({"feeder_dead_until": "soon"}))
    assert "it is replaced" in run("demand", "50", "-c", files[0])
    assert load(tmp_path / "meters.db.world.json").demand == Factor(percent=50, until=T + 43_200)


def test_faults_are_read_when_they_change_and_a_wrong_file_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = path_of(tmp_path / "meters.db")
    file = FaultsFile(path)
    assert file.read() == Faults()
    save(path, Faults(feeder_dead_until=900))
    assert file.read().feeder_dead_until == 900
    path.write_text("{")
    assert [file.read().feeder_dead_until for _ in range(3)] == [900] * 3
    assert len(caplog.records) == 1
    assert "the faults stay as they were" in caplog.text
    path.unlink()
    assert file.read() == Faults()


def test_a_fault_for_ever_is_one_until_the_last_second_of_a_record(tmp_path: Path) -> None:
    config = tmp_path / "meters.toml"
    config.write_text('[meters]\nmicrogrid = "r"\ntown = "town.toml"\nbroker = "127.0.0.1:9"\n')
    done = CliRunner().invoke(app, ["feeder", "dead", "--for", "999999999999999", "--config", str(config)])
    assert done.output == "the feeder of r is dead until 2106-02-07 06:28:15Z\n"
    assert load(path_of(tmp_path / "meters.db")).feeder_dead_until == 2**32 - 1


DELAY_S = 480


def delay(returned: int) -> int:
    """Return the microgrid's own delay; the tests of the draw are in ``test_return``."""
    return DELAY_S if returned % 15 == 0 else 0


def held(value: str, seq: int, until: int | None = None) -> HeldState:
    return HeldState(value=value, epoch=(1, 0), seq=seq, until=until)


def opened_at(switch: BoundarySwitch, steps: Iterable[tuple[int, bool, HeldState | None]]) -> list[int]:
    """Step the switch; return the times at which it is open."""
    times = []
    for at, voltage, desired in steps:
        switch.step(voltage=voltage, held=desired, at=at)
        times += [at] if switch.is_open else []
    return times


def test_it_trips_in_the_slot_without_voltage_and_tells_so() -> None:
    switch = BoundarySwitch(delay, KeptSwitch(is_open=False))
    switch.step(voltage=True, held=None, at=0)
    assert switch.bits == State(0)
    switch.step(voltage=False, held=None, at=15)
    assert switch.bits == State.DEAD_FEEDER | State.SWITCH_OPEN | State.OFF_GRID
    switch.step(voltage=True, held=None, at=30)
    assert switch.bits == State.SWITCH_OPEN | State.OFF_GRID


def test_without_a_manager_it_closes_after_fifteen_stable_minutes_and_its_delay() -> None:
    switch = BoundarySwitch(delay, KeptSwitch(is_open=False))
    steps = [(0, False, held("off", 3)), *((t, True, held("off", 3)) for t in range(15, 3000, 15))]
    assert opened_at(switch, steps)[-1] == 15 + UNMANAGED_S + DELAY_S - 15


def test_a_manager_closes_it_by_a_later_command_after_a_stable_voltage_alone() -> None:
    switch = BoundarySwitch(delay, KeptSwitch(is_open=False))
    steps = [(0, False, held("off", 3)), *((t, True, held("off", 4)) for t in range(15, 3000, 15))]
    assert opened_at(switch, steps)[-1] == STABLE_S


def test_an_excursion_begins_the_wait_again() -> None:
    switch = BoundarySwitch(delay, KeptSwitch(is_open=False))
    steps = [(t, t not in (0, 150), held("off", 4 if t else 3)) for t in range(0, 3000, 15)]
    assert opened_at(switch, steps)[-1] == 150 + STABLE_S


def test_a_command_opens_it_until_its_end_and_an_ended_command_is_no_release() -> None:
    switch = BoundarySwitch(delay, KeptSwitch(is_open=False))
    during = [(t, True, held("on", 5, until=600)) for t in range(0, 600, 15)]
    after = [(t, True, held("off", 5)) for t in range(600, 3000, 15)]
    last = during[-1][0]
    assert opened_at(switch, [*during, *after])[-1] == last + UNMANAGED_S + DELAY_S - 15


def test_a_late_renewal_of_the_command_to_open_finds_the_switch_still_open() -> None:
    switch = BoundarySwitch(lambda _: DELAY_S, KeptSwitch(is_open=False))
    # The voltage is stable for hours; each command lasts 900 s, and each renewal comes 300 s after its end.
    steps = [(t, True, held("on", 5 + t // 1200, until=t // 1200 * 1200 + 900)) for t in range(0, 14_400, 15)]
    assert opened_at(switch, steps) == [t for t, *_ in steps]


def test_after_a_restart_an_open_switch_stays_open_for_the_wait() -> None:
    switch = BoundarySwitch(delay, KeptSwitch(is_open=True))
    assert (
        opened_at(switch, [(t, True, None) for t in range(9000, 12_000, 15)])[-1] == 9000 + UNMANAGED_S + DELAY_S - 15
    )


def test_after_a_restart_only_a_command_after_the_one_that_opened_it_releases_it() -> None:
    switch = BoundarySwitch(delay, KeptSwitch(is_open=False))
    switch.step(voltage=True, held=held("on", 5, until=15), at=0)
    ended = [(t, True, held("off", 5)) for t in range(15, 3000, 15)]
    again = BoundarySwitch(delay, switch.kept)
    assert opened_at(again, ended)[-1] == 15 + UNMANAGED_S + DELAY_S - 15
    again = BoundarySwitch(delay, switch.kept)
    assert opened_at(again, [(t, True, held("off", 6)) for t, *_ in ended])[-1] == STABLE_S


def test_a_clock_that_was_set_back_makes_no_wait_longer() -> None:
    switch = BoundarySwitch(delay, KeptSwitch(is_open=True))
    switch.step(voltage=True, held=None, at=90_000)
    back = [(t, True, None) for t in range(0, 3000, 15)]
    assert opened_at(switch, back)[-1] == UNMANAGED_S + DELAY_S - 15


def test_without_a_manager_each_return_has_its_own_delay() -> None:
    switch, closed = BoundarySwitch(partial(return_delay_s, "r001", is_public=False), KeptSwitch(is_open=False)), set()
    for outage in range(40):
        begin = outage * 6000
        steps = [(begin, False, None), *((t, True, None) for t in range(begin + 15, begin + 6000, 15))]
        closed.add(opened_at(switch, steps)[-1] - begin - UNMANAGED_S)
    assert closed == {BLOCK_S * n for n in range(1, BLOCKS + 1)}


@given(
    st.lists(st.tuples(st.booleans(), st.sampled_from(["on", "off", "none"]), st.integers(1, 9)), max_size=80),
    st.booleans(),
)
def test_whatever_is_commanded_it_is_open_without_voltage_and_closes_after_stable_voltage(
    steps: list[tuple[bool, str, int]], was_open: bool
) -> None:
    switch, stable = BoundarySwitch(delay, KeptSwitch(was_open)), 0
    for n, (voltage, value, seq) in enumerate(steps):
        before = switch.is_open
        desired = None if value == "none" else held(value, seq, until=10**9 if value == "on" else None)
        switch.step(voltage=voltage, held=desired, at=n * 15)
        stable = stable + 15 if voltage else 0
        assert voltage or switch.is_open
        if before and not switch.is_open:
            assert stable > STABLE_S
