"""The town's plant in a world of energy: the real core and tables, and a town with a steady load."""

import random
import sqlite3
from collections.abc import Sequence
from typing import TYPE_CHECKING

from commonwatt.energy.plant import run_plant
from commonwatt.identity.devices import DeviceRole
from commonwatt.model.control import SupplyState
from commonwatt.model.effects import Effect, Publish
from commonwatt.model.units import QUARTER_S, SLOT_S
from commonwatt.protocol.topics import PLANT
from harness.surroundings.fleet import CAPACITY, LOAD, PHYSICAL
from harness.world.network import Broker, Link, device
from harness.world.node import Node
from meter_sim.plant_core import PlantChange, PlantCore, PlantState
from meter_sim.store import PLANT_TABLES, load

if TYPE_CHECKING:
    from harness.world.energy.world import EnergyWorld


class PlantNode(Node[PlantChange]):
    """The plant's process.

    Attributes:
        core: The core.
        link: Its link to the head-end.
        supply: What the regional grid reports of its supply.
    """

    world: "EnergyWorld"
    max_waiting = 1_000

    def __init__(self, world: "EnergyWorld", head_end: Broker) -> None:
        super().__init__(world, PLANT)
        self.link = Link(world, "plant-h", self, head_end, device(PLANT, DeviceRole.PLANT, PLANT))
        self.links = [self.link]
        self.supply = SupplyState.NORMAL
        # With a high level a purchase is less than the line can deliver.
        self._level = int(CAPACITY * random.Random(f"{world.seed}/plant").uniform(0.5, 1))
        self.open_store()

    def build(self) -> None:
        """Make the core again from the store."""
        self._measured = 0, 0
        state, quarters = load(self._file)
        self.core = PlantCore(PHYSICAL, lambda _: 1_000, state or PlantState(level=self._level), quarters)

    def started(self) -> None:
        """Begin to measure at the end of each slot; slots without the process buy nothing."""
        self.later(SLOT_S - self.world.clock() % SLOT_S, self._slot)

    def _slot(self) -> None:
        self.later(SLOT_S, self._slot)
        at = self.world.clock() // SLOT_S * SLOT_S - SLOT_S
        step = run_plant(PHYSICAL, self.core.state.level, LOAD, self.core.setpoint(at), self.supply)
        self._measured = at // QUARTER_S, step.ordered
        self.perform([*self.core.measured(at, step), *self.core.report(self.supply, at + SLOT_S)])

    def work(self) -> None:
        """Carry out the waiting commands."""
        waiting, self.waiting = self.waiting, []
        self.perform([e for _, _, payload in waiting for e in self.core.receive(payload, self.world.clock())])

    def perform(self, wanted: Sequence[Effect[PlantChange]]) -> None:
        """Perform effects; after a failure of the store, begin anew from what it has."""
        try:
            super().perform(wanted)
        except sqlite3.OperationalError as error:
            self.refused(error)
            self.build()
        self._measured = 0, 0

    def commit(self, changes: Sequence[PlantChange]) -> None:
        with self._file:
            PLANT_TABLES.write(self._file, changes, "INSERT")

    def note(self, changes: Sequence[PlantChange]) -> None:
        states = [change for change in changes if isinstance(change, PlantState)]
        self.world.energy.purchased(*self._measured, states)

    def has(self, changes: Sequence[PlantChange]) -> bool:
        *_, last = [change for change in changes if isinstance(change, PlantState)]
        return load(self._file)[0] == last

    def open_store(self) -> None:
        self._file = sqlite3.connect(self.disk.folder / "plant.db")
        self._file.execute("PRAGMA journal_mode = WAL")
        for sql in PLANT_TABLES.added.values():
            self._file.execute(sql.replace("CREATE TABLE ", "CREATE TABLE IF NOT EXISTS "))

    def close_store(self) -> None:
        self._file.close()

    def transmit(self, message: Publish) -> None:
        self.link.send(message, self.world.utility.link)
