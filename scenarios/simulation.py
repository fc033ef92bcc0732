"""A town in the emulator's weather and loads, under a scenario and a policy."""

import numpy as np
from numpy.typing import NDArray

from commonwatt.energy.places import Places
from commonwatt.energy.simulation import Simulation, TownPolicy
from commonwatt.model.units import QUARTER_S
from commonwatt.town.scenario import Conditions
from commonwatt.town.town import Town
from meter_sim.load import Surroundings, seed_of
from meter_sim.world import Sky


class _Emulated(Surroundings):
    """The emulator's surroundings; the levels at the beginning follow from the town's seed."""

    def levels(self, percent: int) -> list[NDArray[np.int64]]:
        """Return the levels of the batteries, each within 10 points of a mean percentage."""
        return [self._levels_of(places, percent) for places in self.blocks]

    def _levels_of(self, places: Places, percent: int) -> NDArray[np.int64]:
        rng = np.random.default_rng(seed_of(self.seed, "levels", *places.microgrids) % 2**32)
        wobble = rng.integers(-100, 101, places.shape)
        return np.asarray(np.clip(places.capacity * (percent * 10 + wobble) // 1000, 0, places.capacity))


def emulated(town: Town, conditions: Conditions, policy: TownPolicy, step_s: int = QUARTER_S) -> Simulation:
    """Return the simulation of a scenario; a quarter-hour is a multiple of a step's seconds."""
    sky = Sky(town, conditions.scenario.overcast)
    return Simulation(town, conditions, policy, step_s, lambda blocks: _Emulated(town, blocks, sky))
