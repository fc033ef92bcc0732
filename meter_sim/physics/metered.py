"""The physics of some or all microgrids of a town in one slot, by their meters' ids; with the plant or without it.

A pure function of its arguments; levels and cold loads are its only state. Without the plant, the town gives and takes
whatever the boundaries let pass.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from commonwatt.energy.physics.boundary import Boundary
from commonwatt.energy.physics.cold import cold_after, cold_load
from commonwatt.energy.physics.places import blocks_of, use_up
from commonwatt.energy.physics.plant import Plant, PlantStep
from commonwatt.energy.physics.step import Inputs
from commonwatt.energy.physics.town import PlantInputs, step_alone, step_town
from commonwatt.model.ids import MeterId
from commonwatt.model.units import EpochSeconds, MicrogridId, MilliwattHours
from commonwatt.settlement.splits import Array
from commonwatt.town.town import Microgrid, Town
from meter_sim.physics.microgrid import Circumstances, MeteredMicrogrid, Step
from meter_sim.physics.surroundings import Surroundings
from meter_sim.weather import Weather

Levels = Mapping[MeterId, MilliwattHours]  # level of each battery of a microgrid, by its meter's id
_Rows = Sequence[tuple[MeteredMicrogrid, Circumstances]]  # the microgrids of one layout, and what holds for each


class MeteredTown:
    """The physics of microgrids of a town."""

    def __init__(
        self,
        town: Town,
        microgrids: Iterable[Microgrid],
        *,
        plant: Plant | None = None,
        weather: Weather | None = None,
    ) -> None:
        members = list(microgrids)
        # Each microgrid's translation between meters and arrays.
        self.microgrids = {microgrid.id: MeteredMicrogrid(town, microgrid) for microgrid in members}
        self._plant = plant
        self._blocks = blocks_of(town, members)
        self.surroundings = Surroundings(town, self._blocks, weather)  # their sun and loads

    def step(
        self,
        time: EpochSeconds,
        levels: Mapping[MicrogridId, Levels],
        circumstances: Mapping[MicrogridId, Circumstances],
        told: PlantInputs | None = None,
    ) -> tuple[dict[MicrogridId, Step], PlantStep | None]:
        """Return the result of the slot that starts at ``time``.

        Args:
            levels: Levels of the batteries at the start of the slot.
            told: What the plant depends on; with a plant only.

        Raises:
            ValueError: A level is missing, negative or above its battery's capacity.
        """
        arrays, inputs, boundaries, ordinary, cold = [], [], [], [], []
        for places, usual in zip(self._blocks, self.surroundings.at(time), strict=True):
            rows = [(self.microgrids[name], circumstances[name]) for name in places.microgrids]
            here = [one for _, one in rows]
            level = np.array([self.microgrids[name].levels(levels[name]) for name in places.microgrids], dtype=np.int64)
            load = _percent(usual.load, [one.demand_percent for one in here])
            cold_s = np.array([grid.by_location(one.cold) for grid, one in rows], dtype=np.int64)
            asked = cold_load(places, load, cold_s)
            for row, one in enumerate(here):
                if one.drop is not None:
                    use_up(places, asked, level, row, one.drop, one.number)
            sun = _percent(usual.generation, [one.sun_percent for one in here])
            arrays.append(level)
            inputs.append(_commanded(Inputs(load=asked, generation=sun), rows))
            boundaries.append(_boundary(rows))
            ordinary.append(load)
            cold.append(cold_s)
        plant: PlantStep | None = None
        if self._plant is None or told is None:
            steps = [step_alone(*each) for each in zip(self._blocks, arrays, inputs, boundaries, strict=True)]
        else:
            steps, plant = step_town(self._blocks, arrays, inputs, boundaries, self._plant, told)
        reports = {}
        for places, step, boundary, load, cold_s in zip(self._blocks, steps, boundaries, ordinary, cold, strict=True):
            after = cold_after(places, load, step.flows.served, cold_s)
            for row, name in enumerate(places.microgrids):
                reports[name] = self.microgrids[name].report(
                    step, row, after, voltage=bool(boundary.voltage[row]), closed=bool(boundary.closed[row])
                )
        return reports, plant


def _commanded(inputs: Inputs, rows: _Rows) -> Inputs:
    """Return the inputs of the microgrids of one layout with the desired states of their meters."""
    if not any(one.commanded for _, one in rows):
        return inputs
    weights = np.array([grid.weights(one.commanded) for grid, one in rows], dtype=np.int64)
    reducing = np.array([grid.told(one.commanded, lambda told: told.reducing) for grid, one in rows])
    isolated = np.array([grid.told(one.commanded, lambda told: told.isolated) for grid, one in rows])
    return replace(
        inputs,
        weights=weights if weights.any() else None,
        reducing=reducing if reducing.any() else None,
        isolated=isolated if isolated.any() else None,
    )


def _boundary(rows: _Rows) -> Boundary:
    return Boundary(
        voltage=np.array([one.voltage for _, one in rows]),
        # Isolated by command at a boundary meter: the switch is open.
        closed=np.array([grid.is_closed(one.commanded) for grid, one in rows]),
        import_limit_w=np.array([grid.import_limit_w(one.commanded) for grid, one in rows], dtype=np.int64),
    )


def _percent(values: Array, percents: Sequence[int]) -> Array:
    """Return the values of each microgrid as a percentage."""
    if all(percent == 100 for percent in percents):
        return values
    return values * np.array(percents, dtype=np.int64)[:, None] // 100
