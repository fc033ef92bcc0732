"""The surroundings of a fleet's meter cores: physics by slot, timers, and random failures (M9, P 3)."""

import random
from collections.abc import Mapping

from commonwatt.device.desired_states import Commanded
from commonwatt.model.ids import MeterId
from commonwatt.model.units import SLOT_S, EpochSeconds
from commonwatt.town.town import Microgrid
from meter_sim.physics.microgrid import ON_GRID, Grid, MicrogridPhysics, Step
from meter_sim.truth import Slot

MAX_CATCH_UP_S = 7 * 86_400
"""Longest stop that the physics steps through; of a longer one, only its last 7 days."""


class World:
    """The physics of the fleet's microgrid, up to the end of the last slot.

    Attributes:
        slot_end: End of the last slot.
        levels: Levels of the batteries at that time.
    """

    def __init__(self, physics: MicrogridPhysics, microgrid: Microgrid, slot: Slot | None, now: float) -> None:
        self.slot_end = int(now) // SLOT_S * SLOT_S if slot is None else slot.slot_end
        self._physics = physics
        self.levels = physics.initial_levels(self.slot_end)
        if slot is not None:
            # The town file may have changed: a new battery has its initial level, a smaller one is at most full.
            capacity = {meter.id: meter.battery.capacity for meter in microgrid.meters if meter.battery}
            self.levels = {
                meter: min(slot.levels.get(meter, level), capacity[meter]) for meter, level in self.levels.items()
            }

    def step(self, commanded: Mapping[MeterId, Commanded], grid: Grid = ON_GRID) -> Step:
        """Step the physics by one slot."""
        step = self._physics.step(self.levels, self.slot_end, commanded, grid)
        self.levels = step.levels
        self.slot_end += SLOT_S
        return step

    def skip_to(self, until: EpochSeconds) -> None:
        """Skip all slots older than ``MAX_CATCH_UP_S`` before ``until``; the levels stay."""
        nearest = (until - MAX_CATCH_UP_S) // SLOT_S * SLOT_S
        self.slot_end = max(self.slot_end, nearest)

    def slot(self, step: Step | None = None) -> Slot:
        """Return the last slot's end and levels and, of a measured slot, what flowed in it, for the store."""
        return Slot(self.slot_end, self.levels, None if step is None else step.energy())


class Failures:
    """Random failures of meters, of 10 to 15 s each (P 3)."""

    def __init__(self, per_day: float, rng: random.Random) -> None:
        self._per_s = per_day / 86_400
        self._rng = rng

    def next_after(self, now: float) -> float | None:
        """Return the time at which a meter that is up at ``now`` fails; ``None``: never."""
        return now + self._rng.expovariate(self._per_s) if self._per_s else None

    def duration_s(self) -> float:
        """Return the duration of a failure, seconds."""
        return 10.0 + 5.0 * self._rng.random()
