"""A fleet of several microgrids on a virtual clock, without connections: a small town with a plant."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from commonwatt.config.meters import MetersSettings, PlantSettings
from commonwatt.device.records.delivery import Tally
from commonwatt.device.store import open_store, reading_store
from commonwatt.model.exceptions import StoreError
from commonwatt.model.records import HISTORY_BYTES, unpack_history
from commonwatt.runtime.clock import Clock
from commonwatt.town.loading import load_town
from meter_sim.faults import FaultsFile, path_of
from meter_sim.fleet import Fleet
from meter_sim.fleet_clock import FleetClock
from meter_sim.meters import MicrogridMeters
from meter_sim.outside import OutsideWorld
from meter_sim.plant import EmulatedPlant
from meter_sim.plant_store import PLANT_TABLES
from meter_sim.truth import TRUTH, true_records

T = 1_782_093_600  # 2026-06-21 22:00 in Boston: there is no sun
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


class FleetBench:
    """A fleet on files of its own; each start is a new process as far as memory goes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "town.toml").write_text(TOWN)
        self.town = load_town(path / "town.toml")
        self.clock = SetClock(origin=0, monotonic_origin=0)
        self.unopened: set[str] = set()
        self.levels: dict[int, int] = {}  # the levels of batteries at the first start

    @property
    def faults(self) -> Path:
        """The file of the faults of all microgrids."""
        return path_of(self.path / "fleet")

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
            faults=FaultsFile(path_of(store)),
        )

    @contextmanager
    def fleet(self) -> Iterator[Fleet]:
        def open_plant(clock: FleetClock, outside: OutsideWorld) -> EmulatedPlant:
            return EmulatedPlant(
                settings=PlantSettings(),
                town=self.town,
                clock=clock,
                outside=outside,
                open_store=lambda: open_store(self.path / "plant.db", PLANT_TABLES),
            )

        fleet = Fleet(
            town=self.town,
            microgrids=NAMES,
            open_meters=self.open_meters,
            clock=self.clock,
            open_plant=open_plant,
            faults=FaultsFile(self.faults),
            levels=self.levels,
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
            asyncio.run(plant._shell.perform(plant.due()))

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
