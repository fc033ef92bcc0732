"""The physics of some or all microgrids of a town in one slot, by their meters' ids; with the plant or without it.

A pure function of its arguments; levels and cold loads are its only state. Without the plant, the town gives and takes
whatever the boundaries let pass.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from commonwatt.model.ids import MeterId
from commonwatt.model.units import EpochSeconds, MicrogridId, MilliwattHours
from commonwatt.settlement.splits import Array
from commonwatt.town.town import Microgrid, Town
from meter_sim.physics.boundary import Boundary
from meter_sim.physics.cold import cold_after, cold_load
from meter_sim.physics.microgrid import Circumstances, MeteredMicrogrid, Step
from meter_sim.physics.places import Places, blocks_of
from meter_sim.physics.plant import Plant, PlantStep
from meter_sim.physics.step import Inputs
from meter_sim.physics.surroundings import Surroundings
from meter_sim.physics.town import PlantInputs, step_alone, step_town
from meter_sim.weather import Weather

Levels = Mapping[MeterId, MilliwattHours]  # level of each battery of a microgrid, by its meter's id


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
        self.weather = weather or Weather(town.table)  # the weather; it may be replaced between two slots
        self._plant = plant
        self._blocks = blocks_of(town, members)
        self._surroundings = Surroundings(town, self._blocks)

    def step(
        self,
        time: EpochSeconds,
        levels: Mapping[MicrogridId, Levels],
        circumstances: Mapping[MicrogridId, Circumstances],
        told: PlantInputs | None = None,
    ) -> tuple[dict[MicrogridId, Step], PlantStep | None]:
        """Return the result of the slot that starts at ``time``.

        Args:
            time: Start of the slot, UTC epoch seconds.
            levels: Levels of the batteries at the start of the slot, by microgrid.
            circumstances: What holds for each microgrid.
            told: What the plant depends on; with a plant only.

        Raises:
            ValueError: A level is missing, negative or above its battery's capacity.
        """
        held = [[circumstances[name] for name in places.microgrids] for places in self._blocks]
        arrays = [
            np.array([self.microgrids[name].levels(levels[name]) for name in places.microgrids], dtype=np.int64)
            for places in self._blocks
        ]
        usual = self._surroundings.at(time, self.weather)
        ordinary = [
            _percent(one.load, [each.demand_percent for each in here]) for one, here in zip(usual, held, strict=True)
        ]
        cold = [self._cold(places, here) for places, here in zip(self._blocks, held, strict=True)]
        inputs = [
            self._inputs(places, replace(one, load=cold_load(places, load, cold_s)), here, level)
            for places, one, load, cold_s, here, level in zip(
                self._blocks, usual, ordinary, cold, held, arrays, strict=True
            )
        ]
        boundaries = [self._boundary(places, here) for places, here in zip(self._blocks, held, strict=True)]
        plant: PlantStep | None = None
        if self._plant is None or told is None:
            steps = [step_alone(*each) for each in zip(self._blocks, arrays, inputs, boundaries, strict=True)]
        else:
            steps, plant = step_town(self._blocks, arrays, inputs, boundaries, self._plant, told)
        after = [
            cold_after(places, load, step.flows.served, cold_s)
            for places, load, step, cold_s in zip(self._blocks, ordinary, steps, cold, strict=True)
        ]
        reports = {
            name: self.microgrids[name].report(
                step, row, cold_s, voltage=bool(boundary.voltage[row]), closed=bool(boundary.closed[row])
            )
            for places, step, boundary, cold_s in zip(self._blocks, steps, boundaries, after, strict=True)
            for row, name in enumerate(places.microgrids)
        }
        return reports, plant

    def _inputs(self, places: Places, usual: Inputs, here: Sequence[Circumstances], level: Array) -> Inputs:
        """Return the sun, the loads and the desired states of the microgrids of one layout."""
        inputs = replace(
            usual,
            load=_dropping(places, usual.load, here, level),
            generation=_percent(usual.generation, [one.sun_percent for one in here]),
        )
        if not any(one.commanded for one in here):
            return inputs
        rows = [(self.microgrids[name], one.commanded) for name, one in zip(places.microgrids, here, strict=True)]
        weights = np.array([grid.weights(commanded) for grid, commanded in rows], dtype=np.int64)
        reducing = np.array([grid.told(commanded, lambda told: told.reducing) for grid, commanded in rows])
        isolated = np.array([grid.told(commanded, lambda told: told.isolated) for grid, commanded in rows])
        return replace(
            inputs,
            weights=weights if weights.any() else None,
            reducing=reducing if reducing.any() else None,
            isolated=isolated if isolated.any() else None,
        )

    def _cold(self, places: Places, here: Sequence[Circumstances]) -> Array:
        """Return for how long the places of one layout are still cold."""
        rows = zip(places.microgrids, here, strict=True)
        return np.array([self.microgrids[name].by_location(one.cold) for name, one in rows], dtype=np.int64)

    def _boundary(self, places: Places, here: Sequence[Circumstances]) -> Boundary:
        # Isolated by command at a boundary meter: the switch is open.
        closed = [
            self.microgrids[name].is_closed(one.commanded) for name, one in zip(places.microgrids, here, strict=True)
        ]
        limits = [
            self.microgrids[name].import_limit_w(one.commanded)
            for name, one in zip(places.microgrids, here, strict=True)
        ]
        return Boundary(
            voltage=np.array([one.voltage for one in here]),
            closed=np.array(closed),
            import_limit_w=np.array(limits, dtype=np.int64),
        )


def _dropping(places: Places, load: Array, here: Sequence[Circumstances], level: Array) -> Array:
    """Return the loads with those of the homes that use their batteries up (N1)."""
    if any(one.drop is not None for one in here):
        load = load.copy()
    for row, one in enumerate(here):
        if one.drop is not None:
            home = one.drop.home(one.number, places.shape[1])
            most = int(places.service[row, home] - load[row, home])
            load[row, home] += one.drop.use(int(level[row, home]), int(places.capacity[row, home]), places.step_s, most)
    return load


def _percent(values: Array, percents: Sequence[int]) -> Array:
    """Return the values of each microgrid as a percentage."""
    if all(percent == 100 for percent in percents):
        return values
    return values * np.array(percents, dtype=np.int64)[:, None] // 100
