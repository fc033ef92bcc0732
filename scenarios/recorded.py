"""What a run of the simulation met, hour by hour and microgrid by microgrid: for a bound that meets the same."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.units import QUARTER_S, MilliwattHours
from commonwatt.town.conditions import Conditions
from commonwatt.town.town import Town
from meter_sim.physics.plant import plant_of
from scenarios.figures import Figures
from scenarios.policies import Policy
from scenarios.simulation import Simulation

_Integers = NDArray[np.int64]

_HOUR_S = 3600


@dataclass(frozen=True, kw_only=True, eq=False)
class World:
    """What a run met, milliwatt-hours, by microgrid and hour unless stated.

    Attributes:
        kinds: The kind of each microgrid.
        capacity: Capacity of all its batteries, by microgrid.
        power: The most that they charge or discharge in an hour, by microgrid.
        load: Load, after the command to reduce.
        sun: What the panels could give.
        imports: The most that the boundary let in: 0 in an island, else the feeder or the ration.
        exports: The most that it let out.
        levels: Content of its batteries at the beginning of the hour.
        line: The most that the line to the region delivered, by hour.
        plant_levels: Content of the plant's battery at the beginning of the hour, by hour.
        plant_capacity: Its capacity.
        plant_power: The most that it charges or discharges in an hour.
        kept: The part of charged energy that is not lost.
    """

    kinds: tuple[str, ...]
    capacity: _Integers
    power: _Integers
    load: _Integers
    sun: _Integers
    imports: _Integers
    exports: _Integers
    levels: _Integers
    line: _Integers
    plant_levels: _Integers
    plant_capacity: MilliwattHours
    plant_power: MilliwattHours
    kept: float


def record(town: Town, conditions: Conditions, policy: Policy, *, days: int | None = None) -> tuple[World, Figures]:
    """Run a scenario in steps of a quarter-hour; return what it met, and its figures."""
    simulation = Simulation(town, conditions, policy, QUARTER_S)
    plant = plant_of(town, QUARTER_S)
    per_hour = _HOUR_S // QUARTER_S
    levels, plant_levels, met, line = [], [], [], []
    for time in range(conditions.begin, conditions.end(days), QUARTER_S):
        levels.append(np.concatenate([grids.level.sum(axis=1) for grids in simulation.grids]))
        plant_levels.append(simulation.plant_level)
        steps = simulation.step(time)
        met.append(
            np.stack(
                [
                    np.concatenate([(s.flows.served + s.flows.unserved).sum(axis=1) for s in steps]),
                    np.concatenate([(s.flows.generation + s.flows.curtailed).sum(axis=1) for s in steps]),
                    *_passes(simulation),
                ]
            )
        )
        line.append(0 if conditions.is_out("town_line", time) else plant.line[conditions.supply(time)])
    load, sun, imports, exports = np.stack(met, axis=2).reshape(4, len(levels[0]), -1, per_hour).sum(axis=3)
    places = [grids.places for grids in simulation.grids]
    world = World(
        kinds=tuple(one.kind for one in places for _ in one.microgrids),
        capacity=np.concatenate([one.capacity.sum(axis=1) for one in places]),
        power=np.concatenate([one.power.sum(axis=1) for one in places]) * per_hour,
        load=load,
        sun=sun,
        imports=imports,
        exports=exports,
        levels=np.stack(levels[::per_hour], axis=1),
        line=np.array(line, dtype=np.int64).reshape(-1, per_hour).sum(axis=1),
        plant_levels=np.array(plant_levels[::per_hour], dtype=np.int64),
        plant_capacity=plant.capacity,
        plant_power=plant.power * per_hour,
        kept=(1000 - plant.loss_permille) / 1000,
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
