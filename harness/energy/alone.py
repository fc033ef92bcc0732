"""The physics of one microgrid beside a town that gives and takes whatever its boundary lets pass."""

from collections.abc import Mapping
from dataclasses import replace

from commonwatt.device.commands.desired_states import Commanded
from commonwatt.model.ids import MeterId
from commonwatt.model.units import EpochSeconds, MilliwattHours
from commonwatt.town.town import Microgrid, Town
from meter_sim.physics.metered import Levels, MeteredTown
from meter_sim.physics.microgrid import Circumstances, Step
from meter_sim.weather import Weather

ON_GRID = Circumstances()


class Alone:
    """One microgrid, with a weather and a percentage of its ordinary load."""

    def __init__(self, town: Town, microgrid: Microgrid, weather: Weather | None = None, percent: int = 100) -> None:
        self._name, self._percent = microgrid.id, percent
        self._town = MeteredTown(town, [microgrid], weather=weather)

    def initial_levels(self, time: EpochSeconds) -> dict[MeterId, MilliwattHours]:
        """Return its initial levels."""
        return self._town.microgrids[self._name].initial_levels(time)

    def step(
        self,
        levels: Levels,
        time: EpochSeconds,
        commanded: Mapping[MeterId, Commanded],
        circumstances: Circumstances = ON_GRID,
    ) -> Step:
        """Return the result of a slot."""
        here = replace(circumstances, commanded=commanded, demand_percent=self._percent)
        steps, _ = self._town.step(time, {self._name: levels}, {self._name: here})
        return steps[self._name]
