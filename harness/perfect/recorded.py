"""What a run of the simulation met, hour by hour and microgrid by microgrid: for a bound that meets the same."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from commonwatt.energy.physics.places import Places
from commonwatt.energy.physics.plant import plant_of
from commonwatt.energy.simulation.figures import Figures
from commonwatt.energy.simulation.simulation import Simulation
from commonwatt.model.units import QUARTER_S, EpochSeconds, MilliwattHours
from commonwatt.town.conditions import Conditions
from commonwatt.town.town import Town
from scenarios.simulation import emulated
from utility.supply.simulated.utility import Policy

_Integers = NDArray[np.int64]

_HOUR_S = 3600

STEPS_PER_HOUR = _HOUR_S // QUARTER_S


@dataclass(frozen=True, kw_only=True, eq=False)
class Homes:
    """What the places of microgrids of one layout met; no place of them is behind another."""

    places: Places  # the places
    rows: _Integers  # the microgrids' places among those of the world
    need: NDArray[np.int32]  # load less sun, milliwatt-hours, by step, microgrid and place: 32 bits hold 2 MWh
    levels: _Integers  # content of each battery at the beginning of the hour, by hour, microgrid and place

    def only(self, chosen: NDArray[np.bool_]) -> "Homes":
        """Return the chosen ones of its microgrids."""
        return Homes(
            places=self.places.only(chosen),
            rows=self.rows[chosen],
            need=self.need[:, chosen],
            levels=self.levels[:, chosen],
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class World:
    """What a run met, milliwatt-hours, by microgrid and hour unless stated."""

    kinds: tuple[str, ...]  # the kind of each microgrid
    capacity: _Integers  # capacity of all its batteries, by microgrid
    power: _Integers  # the most that they charge or discharge in an hour, by microgrid
    load: _Integers  # load, after the command to reduce
    sun: _Integers  # what the panels could give
    imports: _Integers  # the most that the boundary let in: 0 in an island, else the feeder or the ration
    exports: _Integers  # the most that it let out
    levels: _Integers  # content of its batteries at the beginning of the hour
    line: _Integers  # the most that the line to the region delivered, by hour
    plant_levels: _Integers  # content of the plant's battery at the beginning of the hour, by hour
    plant_capacity: MilliwattHours  # its capacity
    plant_power: MilliwattHours  # the most that it charges or discharges in an hour
    kept: float  # the part of charged energy that is not lost
    homes: tuple[Homes, ...]  # the places of microgrids without sources, by layout


class _Diary:
    """Collects what a run meets, step by step."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self.levels: list[_Integers] = []
        self.plant_levels: list[int] = []
        self.met: list[_Integers] = []
        self.homes = [i for i, grids in enumerate(simulation.grids) if not grids.places.sources]
        self.home_levels: list[list[_Integers]] = [[] for _ in self.homes]
        self.needs: list[list[NDArray[np.int32]]] = [[] for _ in self.homes]

    def step(self, time: EpochSeconds) -> None:
        """Make a step of the run."""
        simulation = self._simulation
        if len(self.met) % STEPS_PER_HOUR == 0:
            self.levels.append(np.concatenate([grids.level.sum(axis=1) for grids in simulation.grids]))
            self.plant_levels.append(simulation.plant_level)
            for i, levels in zip(self.homes, self.home_levels, strict=True):
                levels.append(simulation.grids[i].level)
        flows = [step.flows for step in simulation.step(time)]
        loads, suns = [f.served + f.unserved for f in flows], [f.generation + f.curtailed for f in flows]
        for i, needs in zip(self.homes, self.needs, strict=True):
            needs.append((loads[i] - suns[i]).astype(np.int32))
        sums = (np.concatenate([each.sum(axis=1) for each in which]) for which in (loads, suns))
        self.met.append(np.stack([*sums, *_passes(simulation)]))

    def of_homes(self) -> tuple[Homes, ...]:
        """Return what the places met."""
        ends = np.cumsum([len(grids.places.microgrids) for grids in self._simulation.grids])
        return tuple(
            Homes(
                places=(places := self._simulation.grids[i].places),
                rows=np.arange(ends[i] - len(places.microgrids), ends[i]),
                need=np.stack(needs),
                levels=np.stack(levels),
            )
            for i, needs, levels in zip(self.homes, self.needs, self.home_levels, strict=True)
        )


def record(town: Town, conditions: Conditions, policy: Policy, *, days: int | None = None) -> tuple[World, Figures]:
    """Run a scenario in steps of a quarter-hour; return what it met, and its figures."""
    simulation = emulated(town, conditions, policy, QUARTER_S)
    plant, diary = plant_of(town, QUARTER_S), _Diary(simulation)
    line = []
    for time in range(conditions.begin, conditions.end(days), QUARTER_S):
        diary.step(time)
        line.append(0 if conditions.is_out("town_line", time) else plant.line[conditions.supply(time)])
    shape = (4, len(diary.levels[0]), -1, STEPS_PER_HOUR)
    load, sun, imports, exports = np.stack(diary.met, axis=2).reshape(shape).sum(axis=3)
    places = [grids.places for grids in simulation.grids]
    world = World(
        kinds=tuple(one.kind for one in places for _ in one.microgrids),
        capacity=np.concatenate([one.capacity.sum(axis=1) for one in places]),
        power=np.concatenate([one.power.sum(axis=1) for one in places]) * STEPS_PER_HOUR,
        load=load,
        sun=sun,
        imports=imports,
        exports=exports,
        levels=np.stack(diary.levels, axis=1),
        line=np.array(line, dtype=np.int64).reshape(-1, STEPS_PER_HOUR).sum(axis=1),
        plant_levels=np.array(diary.plant_levels, dtype=np.int64),
        plant_capacity=plant.capacity,
        plant_power=plant.power * STEPS_PER_HOUR,
        kept=(1000 - plant.loss_permille) / 1000,
        homes=diary.of_homes(),
    )
    return world, simulation.figures


def _passes(simulation: Simulation) -> tuple[_Integers, _Integers]:
    """Return the most that each boundary lets in and out in the step that was made last."""
    imports, exports = [], []
    for grids, boundary in zip(simulation.grids, simulation.boundaries, strict=True):
        exports.append(grids.places.feeder * (boundary.voltage & boundary.closed))
        ration = boundary.import_limit_w * (1000 * QUARTER_S) // _HOUR_S
        imports.append(np.minimum(exports[-1], ration))
    return np.concatenate(imports), np.concatenate(exports)
