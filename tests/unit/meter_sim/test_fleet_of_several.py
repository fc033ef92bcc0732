"""A fleet of several microgrids without connections: one physics, the plant, and stores that fail one by one."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from commonwatt.config.meters import MetersSettings, PlantSettings
from commonwatt.device.delivery import Tally
from commonwatt.device.store import open_store, reading_store
from commonwatt.model.exceptions import StoreError
from commonwatt.model.records import HISTORY_BYTES, unpack_history
from commonwatt.runtime.clock import Clock
from commonwatt.town.town import load_town
from meter_sim import fleet as fleet_module
from meter_sim.faults import Faults, FaultsFile, path_of, save
from meter_sim.fleet import Fleet
from meter_sim.fleet_clock import FleetClock
from meter_sim.meters import MicrogridMeters
from meter_sim.plant import EmulatedPlant
from meter_sim.plant_store import PLANT_TABLES
from meter_sim.plant_store import load as load_plant
from meter_sim.truth import TRUTH, true_energy, true_records

T = 1_782_093_600
"""2026-06-21 22:00 in Boston: there is no sun."""
NAMES = ("r001", "r002", "pub")
TOWN = """
[[microgrid]]
id = "r"
kind = "residential"
houses = 2
count = 2

[[microgrid]]
id = "pub"
kind = "public"
"""


class SetClock(Clock):
    """A clock whose time the test sets."""

    time = T + 2.0

    def now(self) -> float:
        return self.time


class Bench:
    """A fleet on files of its own; each start is a new process as far as memory goes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "town.toml").write_text(TOWN)
        self.town = load_town(path / "town.toml")
        self.clock = SetClock(origin=0, monotonic_origin=0)
        self.unopened: set[str] = set()

    def open_meters(self, name: str, clock: FleetClock, tally: Tally) -> MicrogridMeters:
        if name in self.unopened:
            raise StoreError(f"{name}: can't be opened")
        store = self.path / f"{name}.db"
        microgrid = self.town.microgrids[name]
        return MicrogridMeters(
            settings=MetersSettings(microgrid=name, failures_per_day=0, store=store, broker="127.0.0.1:9"),
            microgrid=microgrid,
            seed=1,
            tokens={str(meter.id): "token" for meter in microgrid.meters},
            clock=clock,
            store=open_store(store, TRUTH),
            tally=tally,
        )

    @contextmanager
    def fleet(self) -> Iterator[Fleet]:
        def open_plant(clock: FleetClock) -> EmulatedPlant:
            return EmulatedPlant(
                settings=PlantSettings(),
                town=self.town,
                clock=clock,
                open_store=lambda: open_store(self.path / "plant.db", PLANT_TABLES),
            )

        fleet = Fleet(
            town=self.town,
            microgrids=NAMES,
            open_meters=self.open_meters,
            clock=self.clock,
            open_plant=open_plant,
            faults=FaultsFile(path_of(self.path / "fleet")),
        )
        asyncio.run(fleet.start(asyncio.Event()))
        for member in fleet.members.values():
            asyncio.run(member.boot())
        try:
            yield fleet
        finally:
            fleet.close()

    def slots(self, fleet: Fleet, count: int, *, without: str = "") -> None:
        """Let slots pass; ``without`` a microgrid, whose meters do not get to measure them."""
        for _ in range(count):
            self.clock.time = fleet.slot_end + 15.0
            assert fleet.pass_slot()
            for name, member in fleet.members.items():
                if name != without:
                    asyncio.run(member._shell.perform(member.turn(self.clock.time)))
            plant = fleet.plant
            assert plant is not None
            effects, plant._effects = plant._effects, []
            asyncio.run(plant._shell.perform(effects))

    def records(self, name: str) -> list[tuple[int, int, int, int]]:
        """Return (slot's end, meter, type, reading) of each record ever made."""
        with reading_store(self.path / f"{name}.db") as store:
            found = [
                unpack_history(data[at : at + HISTORY_BYTES])
                for _, data in true_records(store)
                for at in range(0, len(data), HISTORY_BYTES)
            ]
        return [(one.end, one.meter_id, one.record_type, one.reading) for one in found]

    def ends(self, name: str) -> list[int]:
        return sorted({end for end, *_ in self.records(name)})


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def through_boundaries(bench: Bench) -> int:
    """Return what the boundary's meters measured, into the microgrids less out of them."""
    signs = {
        meter.id: 1 if meter.direction == "incoming" else -1
        for meter in bench.town.meters
        if meter.function == "boundary"
    }
    return sum(signs.get(meter, 0) * value for name in NAMES for _, meter, _, value in bench.records(name))


def test_the_plant_gives_what_the_boundaries_of_all_microgrids_measure(bench: Bench) -> None:
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


def test_a_microgrid_whose_store_hangs_measures_every_slot_later_and_no_other_waits(bench: Bench) -> None:
    with bench.fleet() as fleet:
        bench.slots(fleet, 3, without="r002")
        assert bench.ends("r001") == bench.ends("pub") == [T + 15, T + 30, T + 45]
        assert bench.ends("r002") == []
        assert fleet.figures("r002").lag_s == 30
        for _ in range(3):
            asyncio.run(fleet.members["r002"]._shell.perform(fleet.members["r002"].turn(bench.clock.time)))
        assert bench.ends("r002") == bench.ends("r001")


def test_a_kill_before_one_microgrids_commit_makes_no_second_version(bench: Bench) -> None:
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


def test_a_store_that_cannot_be_opened_stops_no_other_microgrid(bench: Bench) -> None:
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


def test_a_damaged_store_is_opened_again_while_the_others_run(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_module, "REOPEN_AFTER_S", 0.0)

    async def story(fleet: Fleet) -> None:
        failing, stop = fleet.members["r001"], asyncio.Event()

        def damaged(changes: object) -> None:
            raise sqlite3.DatabaseError("database disk image is malformed")

        monkeypatch.setattr(failing._store, "commit", damaged)
        run = asyncio.create_task(fleet.run(stop))
        while fleet.members.get("r001") in (None, failing) or len(bench.ends("r002")) < 2:
            bench.clock.time += 5.0
            await asyncio.sleep(0.01)
            assert not run.done()
        stop.set()
        await run

    with bench.fleet() as fleet:
        asyncio.run(story(fleet))


def test_a_dead_feeder_of_all_microgrids_leaves_the_plant_alone(bench: Bench) -> None:
    save(path_of(bench.path / "fleet"), Faults(feeder_dead_until=T + 100))
    with bench.fleet() as fleet:
        bench.slots(fleet, 2)
        assert fleet.town_figures().power.import_w == 0
        assert fleet.plant is not None
        assert fleet.plant.figures().level == fleet.plant.physical.capacity * 3 // 4
    with reading_store(bench.path / "pub.db") as store:
        assert all("served" in energy for _, energy in true_energy(store))
