"""A fleet of several microgrids on a virtual clock, and a plant; what flowed, of the fleet's truth log."""

import asyncio
import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from commonwatt.config.meters import MetersSettings, PlantSettings
from commonwatt.device.records import Tally
from commonwatt.device.store import DeviceStore, open_store, reading_store
from commonwatt.energy.plant import Need, Plant, run_plant
from commonwatt.model.control import SupplyState
from commonwatt.model.effects import Effect, Publish, Write
from commonwatt.model.exceptions import StoreError
from commonwatt.model.records import HISTORY_BYTES, unpack_history
from commonwatt.model.units import QUARTER_S, SLOT_S
from commonwatt.runtime.clock import Clock
from commonwatt.town.loading import load_town
from harness.surroundings.databases import opened
from meter_sim.faults import FaultsFile, path_of
from meter_sim.fleet import Fleet
from meter_sim.fleet_clock import FleetClock
from meter_sim.meters import MicrogridMeters
from meter_sim.plant import EmulatedPlant
from meter_sim.plant_core import PlantCore, PlantState
from meter_sim.store import PLANT_TABLES, TRUTH, SlotEnergy, load, true_records
from meter_sim.world import OutsideWorld


def true_energy(store: DeviceStore) -> Iterator[tuple[int, SlotEnergy]]:
    """Yield (slot end, what flowed in that slot), oldest first."""
    for slot_end, energy in store.connection.execute("SELECT slot_end, energy FROM truth_energy ORDER BY slot_end"):
        yield slot_end, json.loads(energy)


CAPACITY = 12_000_000
PHYSICAL = Plant(
    capacity=CAPACITY,
    power=12_500,
    loss_permille=0,
    line={SupplyState.NORMAL: 12_000, SupplyState.LOW: 4_000, SupplyState.CRITICAL: 1_200, SupplyState.EMPTY: 0},
    feed_in=8_000,
)
"""A plant for a town with a mean load of 960 W."""

LOAD = Need(wanted=4_000, public=0, offered=0)  # what the town takes in a slot, milliwatt-hours


class PlantHost:
    """The plant's process, whose memory a test throws away by ``start``."""

    def __init__(self, dear_from: int, level: int = CAPACITY // 2) -> None:
        self._level = level
        self.file = sqlite3.connect(":memory:", check_same_thread=False)
        opened.append(self.file.close)
        for sql in PLANT_TABLES.added.values():
            self.file.execute(sql)
        self.sent: list[Publish] = []  # the messages it sent, oldest first
        self.bought = 0  # energy bought by order so far, milliwatt-hours
        self.supply = SupplyState.NORMAL  # what the regional grid reports
        self.dear_from = dear_from  # from when on the regional price is 1.5 times the usual one
        self.start()

    def start(self) -> None:
        """Start it from what it has stored."""
        state, quarters = load(self.file)
        self.core = PlantCore(PHYSICAL, self._price, state or PlantState(level=self._level), quarters)

    def do(self, effects: Sequence[Effect[object]]) -> None:
        """Commit, then publish."""
        PLANT_TABLES.write(self.file, [e.change for e in effects if isinstance(e, Write)], "INSERT")
        self.sent += [e for e in effects if isinstance(e, Publish)]

    def slot(self, at: int) -> None:
        """Run the slot that begins at ``at``."""
        step = run_plant(PHYSICAL, self.core.state.level, LOAD, self.core.setpoint(at), self.supply)
        self.bought += step.ordered
        self.do(self.core.measured(at, step))
        self.do(self.core.report(self.supply, at + SLOT_S))

    def slots(self, begin: int, end: int) -> None:
        """Run all slots from ``begin`` to ``end``."""
        for at in range(begin, end, SLOT_S):
            self.slot(at)

    def bought_in(self, quarter: int) -> int:
        """Return the energy that was bought by order in a finished quarter."""
        return next(row.ordered for row in load(self.file)[1] if row.quarter == quarter)

    def _price(self, time: int) -> int:
        return 1500 if time // QUARTER_S * QUARTER_S >= self.dear_from else 1000


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
