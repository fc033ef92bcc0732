"""A fleet of several microgrids without connections: one physics, the plant, stores that fail, import limits."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from unittest.mock import Mock

import pytest

from commonwatt.config.files import check_named_files, load_settings
from commonwatt.config.meters import MetersSettings
from commonwatt.device.store import reading_store
from commonwatt.model.effects import Publish
from commonwatt.model.exceptions import ConfigError, StoreError
from commonwatt.town.registry import registry_of
from commonwatt.town.town import Direction, Function
from harness.surroundings.fleet import NAMES, FleetBench, T, true_energy
from harness.surroundings.gateway import World
from meter_sim import fleet as fleet_module
from meter_sim.cli import first_levels
from meter_sim.faults import Faults, save
from meter_sim.fleet import Fleet, hosted
from meter_sim.store import load as load_plant


@pytest.fixture
def bench(tmp_path: Path) -> FleetBench:
    return FleetBench(tmp_path)


def through_boundaries(bench: FleetBench) -> int:
    """Return what the boundary's meters measured, into the microgrids less out of them."""
    signs = {
        meter.id: 1 if meter.direction == "incoming" else -1
        for meter in bench.town.meters
        if meter.function == "boundary"
    }
    return sum(signs.get(meter, 0) * value for name in NAMES for _, meter, _, value in bench.records(name))


def test_the_plant_gives_what_the_boundaries_of_all_microgrids_measure(bench: FleetBench) -> None:
    with bench.fleet() as fleet:
        # The batteries are empty, so that each load is met by the town.
        fleet._world.levels = {name: dict.fromkeys(levels, 0) for name, levels in fleet._world.levels.items()}
        bench.slots(fleet, 4)
        assert fleet.town_figures().power.import_w == fleet.town_figures().power.load_w > 50_000
        assert fleet.plant is not None
        plant = fleet.plant.figures()
        assert plant.battery_w == pytest.approx(-fleet.power().import_w, abs=2)
        began = plant.capacity * 3 // 4
    # Readings are cut to 100 mWh, with a carry.
    assert began - plant.level - through_boundaries(bench) in range(6 * 100)
    with sqlite3.connect(bench.path / "plant.db") as connection:
        state, _ = load_plant(connection)
    connection.close()
    assert state is not None
    assert (state.level, state.slot_end) == (plant.level, T + 60)


def test_a_slot_that_passes_as_the_plant_is_stopped_is_stored(bench: FleetBench) -> None:
    async def stopped(fleet: Fleet) -> None:
        stop = asyncio.Event()
        assert fleet.plant is not None
        plant = asyncio.create_task(fleet.plant.run(stop))
        await asyncio.sleep(0.05)
        bench.clock.time = T + 15.0
        assert fleet.pass_slot()
        stop.set()
        await plant

    with bench.fleet() as fleet:
        asyncio.run(stopped(fleet))
    with closing(sqlite3.connect(bench.path / "plant.db")) as connection:
        state, _ = load_plant(connection)
    assert state is not None
    assert state.slot_end == T + 15


def test_a_microgrid_whose_store_hangs_measures_every_slot_later_and_no_other_waits(bench: FleetBench) -> None:
    with bench.fleet() as fleet:
        bench.slots(fleet, 3, without="r002")
        assert bench.ends("r001") == bench.ends("pub") == [T + 15, T + 30, T + 45]
        assert bench.ends("r002") == []
        assert fleet.figures("r002").lag_s == 30
        for _ in range(3):
            asyncio.run(fleet.members["r002"]._shell.perform(fleet.members["r002"].turn(bench.clock.time)))
        assert bench.ends("r002") == bench.ends("r001")


def test_a_kill_before_one_microgrids_commit_makes_no_second_version(bench: FleetBench) -> None:
    with bench.fleet() as fleet:
        bench.slots(fleet, 2)
        bench.slots(fleet, 2, without="r002")
    before = {name: bench.records(name) for name in NAMES}
    bench.clock.time = T + 62.0
    with bench.fleet() as fleet:
        assert fleet.slot_end == T + 60
        bench.slots(fleet, 1)
    assert bench.ends("r001") == [T + 15, T + 30, T + 45, T + 60, T + 75]
    assert bench.ends("r002") == [T + 15, T + 30, T + 75]
    for name in NAMES:
        assert bench.records(name)[: len(before[name])] == before[name]
        slots = [record[:3] for record in bench.records(name)]
        assert len(slots) == len(set(slots)), "each slot is recorded once"


def test_a_store_that_cannot_be_opened_stops_no_other_microgrid(bench: FleetBench) -> None:
    bench.unopened = {"r001"}
    with bench.fleet() as fleet:
        bench.slots(fleet, 2)
        assert fleet.town_figures().closed == 1
        assert fleet.figures("r001").made == 0
        bench.unopened = set()
        fleet._reopen("r001")
        asyncio.run(fleet.members["r001"].boot())
        bench.slots(fleet, 1)
    assert bench.ends("r002") == [T + 15, T + 30, T + 45]
    assert bench.ends("r001") == [T + 45]
    bench.unopened = set(NAMES)
    with pytest.raises(StoreError, match="can't be opened"), bench.fleet():
        pass


@pytest.mark.parametrize("shows", ["a commit", "a read"])
def test_a_damaged_store_is_opened_again_while_the_others_run(
    bench: FleetBench, monkeypatch: pytest.MonkeyPatch, shows: str
) -> None:
    monkeypatch.setattr(fleet_module, "REOPEN_AFTER_S", 0.0)

    async def story(fleet: Fleet) -> None:
        failing, stop = fleet.members["r001"], asyncio.Event()

        def damaged(*of: object) -> None:
            raise sqlite3.DatabaseError("database disk image is malformed")

        if shows == "a commit":
            monkeypatch.setattr(failing._store, "commit", damaged)
        else:
            monkeypatch.setattr(failing, "turn", damaged)
        run = asyncio.create_task(fleet.run(stop))
        while fleet.members.get("r001") in (None, failing) or len(bench.ends("r002")) < 2:
            bench.clock.time += 5.0
            await asyncio.sleep(0.01)
            assert not run.done()
        stop.set()
        await run

    with bench.fleet() as fleet:
        asyncio.run(story(fleet))


def test_a_dead_feeder_of_all_microgrids_leaves_the_plant_alone(bench: FleetBench) -> None:
    save(bench.faults, Faults(feeder_dead_until=T + 100))
    with bench.fleet() as fleet:
        bench.slots(fleet, 2)
        assert fleet.town_figures().power.import_w == 0
        assert fleet.plant is not None
        assert fleet.plant.figures().level == fleet.plant.physical.capacity * 3 // 4
    with reading_store(bench.path / "pub.db") as store:
        assert all("served" in energy for _, energy in true_energy(store))


def test_the_file_of_several_needs_no_file_of_one(tmp_path: Path) -> None:
    for name in ("r001", "r002"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "meters.toml").write_text(f'[meters]\nmicrogrid = "{name}"\ntown = "../town.toml"\n')
        (tmp_path / name / "meter-tokens.json").write_text("{}")
    (tmp_path / "town.toml").write_text('[[microgrid]]\nid = "r"\nkind = "residential"\ncount = 2\n')
    (tmp_path / "plant").mkdir()
    file = tmp_path / "plant" / "meters.toml"
    file.write_text('[meters]\nmicrogrids = ["r001", "r002"]\ntown = "../town.toml"\nplant = {}\n')
    check_named_files(file, "meters")
    settings = load_settings(file, "meters", MetersSettings)
    assert list(hosted(file, settings)) == ["r001", "r002"]
    (tmp_path / "r002" / "meters.toml").write_text('[meters]\nmicrogrid = "r001"\ntown = "../town.toml"\n')
    with pytest.raises(ConfigError, match=r"is of microgrid r001, but .* names it for r002"):
        hosted(file, settings)
    (tmp_path / "r002" / "meters.toml").write_text('[meters]\nmicrogrid = "r002"\n')
    with pytest.raises(ConfigError, match=r"town differs from that of .*: one process has one town"):
        hosted(file, settings)


def test_a_fleet_begins_at_the_levels_it_is_given_and_goes_on_from_its_own(bench: FleetBench) -> None:
    battery = next(meter for meter in bench.town.meters if meter.battery)
    bench.levels = {battery.id: 1_000, 999: 5}
    with bench.fleet() as fleet:
        level = fleet._world.levels[battery.microgrid][battery.id]
        assert level == 1_000
        bench.slots(fleet, 4)
        after = fleet._world.levels[battery.microgrid][battery.id]
        assert after != level
    with bench.fleet() as fleet:
        assert fleet._world.levels[battery.microgrid][battery.id] == after


@pytest.mark.parametrize("content", ['{"house 1": 5}', '{"10001": "much"}', "[]"])
def test_a_wrong_file_of_levels_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "levels.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"levels\.json"):
        first_levels(path)


@pytest.mark.parametrize("two", [True, False])
def test_a_plant_that_hears_nothing_for_long_goes_to_the_other_head_end_if_there_is_one(
    bench: FleetBench, monkeypatch: pytest.MonkeyPatch, two: bool
) -> None:
    with bench.fleet() as fleet:
        assert fleet.plant is not None
        plant, link, now = fleet.plant, Mock(), 0.0
        monkeypatch.setattr("meter_sim.plant.time.monotonic", lambda: now)
        monkeypatch.setattr(plant, "_link", link)
        monkeypatch.setattr(plant, "_has_two", two)
        for minute in range(45):
            now = 60.0 * minute
            if minute == 10:
                plant._heard("", b"")
            plant._publish(Publish("", b""))
            assert link.restart.call_count == (two and minute >= 30), minute
        if two:
            link.restart.assert_called_once_with("silent", move=True)


LIMITED = "r001"


class Limited:
    """A fleet, and a gateway on a wire without loss for one of its microgrids."""

    def __init__(self, path: Path, bench: FleetBench, fleet: Fleet) -> None:
        self.bench, self.fleet = bench, fleet
        self.gateway = World(path / "gateway.db")
        self.gateway.now = int(bench.clock.time)
        self.gateway.meters = {meter.id: meter for meter in registry_of(bench.town.microgrids[LIMITED]).meters}
        self.gateway.new_core()
        self._read = 0

    def pass_slots(self, count: int) -> None:
        for _ in range(count):
            self.bench.slots(self.fleet, 1)
            self.gateway.now = int(self.bench.clock.time)
            self.gateway.tick("retry")
            self.deliver()

    def deliver(self) -> None:
        """Deliver the gateway's commands to the meters, and their answers."""
        member = self.fleet.members[LIMITED]
        while new := self.gateway.sent[self._read :]:
            self._read = len(self.gateway.sent)
            for message in new:
                _, _, meter, *leaf = message.topic.split("/")
                if leaf != ["d", "cmd"]:
                    continue
                effects = member.meters[int(meter)].receive("cmd", message.payload, self.bench.clock.time)
                asyncio.run(member._shell.perform([e for e in effects if not isinstance(e, Publish)]))
                for answer in [e for e in effects if isinstance(e, Publish) and e.topic.endswith("/u/out")]:
                    self.gateway.meter_says(int(meter), "out", answer.payload)


def through(bench: FleetBench, name: str, direction: Direction) -> list[int]:
    """What passed a microgrid's boundary, slot by slot."""
    meters = bench.town.microgrids[name].meters
    (found,) = [m.id for m in meters if (m.function, m.direction) == (Function.BOUNDARY, direction)]
    return [value for _, meter, _, value in sorted(bench.records(name)) if meter == found]


def with_levels(bench: FleetBench, fleet: Fleet, percent: int) -> None:
    batteries = {meter.id: meter.battery for meter in bench.town.meters if meter.battery is not None}
    fleet._world.levels = {
        name: {meter: batteries[meter].capacity * percent // 100 for meter in levels}
        for name, levels in fleet._world.levels.items()
    }


def test_houses_with_a_limit_of_nothing_import_nothing_and_the_limit_ends_without_the_utility(tmp_path: Path) -> None:
    # req: A2, A8, C1
    bench = FleetBench(tmp_path)
    with bench.fleet() as fleet:
        with_levels(bench, fleet, 0)
        world = Limited(tmp_path, bench, fleet)
        world.pass_slots(2)
        world.gateway.ask(cmd="supply", supply="CRITICAL", import_limit_w=0, for_s=120)
        world.deliver()
        world.pass_slots(12)
        world.gateway.store.close()
    imports = {name: through(bench, name, Direction.INCOMING) for name in ("r001", "r002", "pub")}
    assert all(imports["r001"][:2]), "the batteries are empty, and it is night"
    assert imports["r001"][2:10] == [0] * 8
    assert all(imports["r001"][11:]), "the utility has said nothing more"
    assert all(imports["r002"]), "another microgrid has its own controller"
    assert all(imports["pub"])
    with reading_store(tmp_path / "r001.db") as store:
        short = [dict(energy).get("short", {}) for _, energy in true_energy(store)]
    assert all(set(one) <= {"LIMIT", "PLACE"} and one for one in short[2:10])
    assert short[0] == {}


def test_houses_with_a_limit_of_nothing_go_on_exporting(tmp_path: Path) -> None:
    bench = FleetBench(tmp_path)
    bench.clock.time = T + 14 * 3600 + 2.0  # noon
    with bench.fleet() as fleet:
        with_levels(bench, fleet, 100)
        world = Limited(tmp_path, bench, fleet)
        world.gateway.ask(cmd="supply", supply="CRITICAL", import_limit_w=0, for_s=600)
        world.deliver()
        world.pass_slots(6)
        world.gateway.store.close()
    assert all(through(bench, "r001", Direction.OUTGOING))
    assert through(bench, "r001", Direction.INCOMING) == [0] * 6
