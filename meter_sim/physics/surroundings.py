"""The sun and the loads of all places of a town by step, as the physics takes them (T1-T7)."""

from collections.abc import Sequence

import numpy as np

from commonwatt.model.units import SLOT_S, EpochSeconds
from commonwatt.town.town import Town
from meter_sim.load import Loads
from meter_sim.physics.places import Places, consumers_of
from meter_sim.physics.step import Inputs
from meter_sim.weather import Weather


class Surroundings:
    """The sun and the loads of microgrids by step; without commands."""

    def __init__(self, town: Town, blocks: Sequence[Places], weather: Weather | None = None) -> None:
        """Take the town, its microgrids as arrays and, from a scenario, other weather."""
        self._blocks = blocks
        self._weather = weather or Weather(town.table)
        self._loads = [
            Loads(
                [one for name in places.microgrids for one in consumers_of(town, town.microgrids[name])], places.step_s
            )
            for places in blocks
        ]

    def at(self, time: EpochSeconds, weather: Weather | None = None) -> list[Inputs]:
        """Return the inputs of the step that starts at ``time``, one for each block; ``weather``: in this step only."""
        weather = weather or self._weather
        inputs = []
        for places, loads in zip(self._blocks, self._loads, strict=True):
            # The mean of the temperatures at which its slots start.
            temperature = weather.temperature_c(time + (places.step_s - SLOT_S) // 2)
            load = loads.at(time, temperature).reshape(places.shape[0], -1)
            if places.sources:
                used, load = load, np.zeros(places.shape, dtype=np.int64)
                load[:, places.users] = used
            sun = weather.solar(time, places.step_s)
            inputs.append(Inputs(load=load, generation=places.generation(sun)))
        return inputs
