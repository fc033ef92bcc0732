"""What a person or a scenario does to the world of running meters, on a virtual clock."""

import json
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from typer.testing import CliRunner

from commonwatt.device.store import reading_store
from commonwatt.model.control.supply import SupplyState
from commonwatt.model.effects import Publish
from commonwatt.model.records import RecordType, State
from commonwatt.protocol.topics import RECORDS, meter_up
from commonwatt.runtime.clock import Clock, save_clock
from commonwatt.town.scenario import Demand
from commonwatt.town.scenario import load as load_scenario
from harness.surroundings.fleet import NAMES, FleetBench, T
from meter_sim import backup as backup_module
from meter_sim.backup import RUNS_S, Backup
from meter_sim.cli import app
from meter_sim.faults import Factor, Faults, FaultsFile, MeterFault, Shortage, load, save
from meter_sim.fleet import Fleet
from meter_sim.outside import OutsideWorld
from meter_sim.truth import true_events

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
