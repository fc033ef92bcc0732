"""The sun and the loads of all places of a town by step, as the physics takes them (T1-T7)."""

from collections.abc import Sequence

import numpy as np

from commonwatt.energy.physics.places import Places, places_of
from commonwatt.energy.physics.step import Inputs
from commonwatt.model.units import SLOT_S, EpochSeconds
from commonwatt.town.town import Microgrid, Town, average_w
from meter_sim.load import Consumer, Loads
from meter_sim.weather import Weather


class Surroundings:
    """The sun and the loads of microgrids by step; without commands."""

    def __init__(self, town: Town, blocks: Sequence[Places], weather: Weather | None = None) -> None:
        """Take the town, its microgrids as arrays and, from a scenario, other weather."""
        self.blocks, self.seed = blocks, town.table.seed  # the microgrids, and what decides of chance
        self.weather = weather or Weather(town.table)  # the weather; it may be replaced between two steps
        self._loads = [
            Loads(
                [one for name in places.microgrids for one in consumers_of(town, town.microgrids[name])], places.step_s
            )
            for places in blocks
        ]

    def at(self, time: EpochSeconds) -> list[Inputs]:
        """Return the inputs of the step that starts at ``time``, one for each block."""
        inputs = []
        for places, loads in zip(self.blocks, self._loads, strict=True):
            # The mean of the temperatures at which its slots start.
            temperature = self.weather.temperature_c(time + (places.step_s - SLOT_S) // 2)
            load = loads.at(time, temperature).reshape(places.shape[0], -1)
            if places.sources:
                used, load = load, np.zeros(places.shape, dtype=np.int64)
                load[:, places.users] = used
            sun = self.weather.solar(time, places.step_s)
            inputs.append(Inputs(load=load, generation=places.generation(sun)))
        return inputs


def consumers_of(town: Town, microgrid: Microgrid) -> list[Consumer]:
    """Return the places of a microgrid that use energy, in their order, as the load model takes them."""
    return [
        Consumer(
            seed=town.table.seed,
            place=f"{microgrid.id}/{place.location}",
            function=place.incoming.function,
            average_w=average_w(town.table, place.incoming.function),
            timezone=town.table.timezone,
        )
        for place in places_of(microgrid)
        if place.incoming is not None
    ]
