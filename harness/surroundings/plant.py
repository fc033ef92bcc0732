"""An emulated plant on a virtual clock: its core, its tables and a town with a steady load."""

import sqlite3
from collections.abc import Sequence

from commonwatt.energy.physics.plant import Need, Plant, run_plant
from commonwatt.model.control.supply import SupplyState
from commonwatt.model.effects import Effect, Publish, Write
from commonwatt.model.units import QUARTER_S, SLOT_S
from harness.surroundings.databases import opened
from meter_sim.plant_core import PlantCore, PlantState
from meter_sim.plant_store import PLANT_TABLES, load

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
