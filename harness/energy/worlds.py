"""Random towns for one step of the physics, and one microgrid beside a town that gives and takes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.random import Generator

from commonwatt.device.commands import Commanded
from commonwatt.energy.places import EnergySource, Places
from commonwatt.energy.plant import Plant, PlantOrder
from commonwatt.energy.splits import Array, Flags
from commonwatt.energy.step import NO_LIMIT_W, Boundary, Inputs, PlantInputs
from commonwatt.model.control import SupplyState
from commonwatt.model.units import EpochSeconds, MeterId, MilliwattHours
from commonwatt.town.town import Microgrid, Town
from meter_sim.load import Weather
from meter_sim.physics import Circumstances, Levels, MeteredTown, PhysicsStep

_Values = TypeVar("_Values", Array, Flags)


@dataclass(frozen=True, kw_only=True)
class RandomTown:
    """The arguments of a town's step; the lists have one element for each layout."""

    blocks: list[Places]
    levels: list[Array]
    inputs: list[Inputs]
    boundaries: list[Boundary]
    plant: Plant
    told: PlantInputs


def random_town(seed: int, microgrids: int) -> RandomTown:
    """Return a random town with about ``microgrids`` microgrids."""
    rng = np.random.default_rng(seed)
    loss = int(rng.choice([0, 0, 1, 80, 500, 900]))
    blocks = [
        _places(rng, "residential", max(microgrids - 2, 1), int(rng.integers(0, 13)), (), loss),
        _places(rng, "apartment", 1, *_buildings(rng), loss),
        _places(rng, "public", 1, 4, (EnergySource(column=3, behind=np.array([0, 1, 2])),), loss),
    ]
    levels = [_levels(rng, places) for places in blocks]
    inputs = [_inputs(rng, places) for places in blocks]
    scale = int(sum(int(one.load.sum()) for one in inputs)) + 1
    capacity = int(rng.integers(0, scale * 3))
    plant = Plant(
        capacity=capacity,
        power=int(rng.integers(0, scale)),
        loss_permille=loss,
        line={state: int(rng.integers(0, scale)) for state in SupplyState},
        feed_in=int(rng.integers(0, scale)),
    )
    told = PlantInputs(
        level=int(rng.choice([0, capacity, int(rng.integers(0, capacity + 1))])),
        order=PlantOrder(
            buy=int(rng.choice([0, int(rng.integers(0, scale))])),
            keep=int(rng.choice([0, capacity // 3, 2 * capacity])),
        ),
        supply=list(SupplyState)[rng.integers(0, 4)],
        alive=bool(rng.random() < 0.7),
    )
    return RandomTown(
        blocks=blocks,
        levels=levels,
        inputs=inputs,
        boundaries=[_boundary(rng, places) for places in blocks],
        plant=plant,
        told=told,
    )


def _buildings(rng: Generator) -> tuple[int, tuple[EnergySource, ...]]:
    sources, column = [], 0
    for _ in range(int(rng.integers(1, 4))):
        apartments = int(rng.integers(0, 7))
        sources.append(EnergySource(column=column, behind=np.arange(column + 1, column + 1 + apartments)))
        column += 1 + apartments
    return column, tuple(sources)


def _places(
    rng: Generator, kind: str, rows: int, columns: int, sources: tuple[EnergySource, ...], loss_permille: int
) -> Places:
    shape = (rows, columns)
    users = np.ones(columns, dtype=np.bool_)
    users[[source.column for source in sources]] = False
    with_battery = ~users if sources else users
    top = int(rng.choice([3, 100, 28_800_000]))
    capacity = rng.integers(0, top + 1, shape) * with_battery
    return Places(
        microgrids=tuple(f"{kind}{row}" for row in range(rows)),
        kind=kind,
        names=((),) * rows,
        step_s=15,
        capacity=capacity,
        minimum=-(-capacity * rng.choice([0, 25, 50, 75, 100], shape) // 100),
        weight=np.ones(shape, np.int64),
        full_sun=rng.integers(0, top // 2 + 1, shape) * with_battery,
        power=rng.integers(0, max(top // 2, 1) + 1, shape) * with_battery,
        service=rng.integers(0, top * 2 + 1, shape),
        feeder=rng.choice([0, top // 2, top * columns * 3], rows).astype(np.int64),
        users=users,
        priority=np.zeros(shape, np.int64),
        sources=sources,
        loss_permille=loss_permille,
    )


def _levels(rng: Generator, places: Places) -> Array:
    """Return levels; ends, minima and their neighbours are where mistakes live."""
    near = places.minimum + rng.integers(-1, 2, places.shape)
    anywhere = (places.capacity * rng.random(places.shape)).astype(np.int64)
    which = rng.integers(0, 5, places.shape)
    levels = np.choose(which, [np.zeros_like(near), places.capacity, near, anywhere, anywhere])
    return np.asarray(np.clip(levels, 0, places.capacity))


def _inputs(rng: Generator, places: Places) -> Inputs:
    top = int(places.power.max(initial=3)) * 2
    return Inputs(
        load=rng.integers(0, top + 1, places.shape) * places.users * int(rng.choice([0, 1, 1, 1])),
        generation=places.generation(float(rng.choice([0.0, 1.0, rng.random()]))),
        weights=_some(rng, rng.integers(0, int(rng.choice([2, 6, 1001])), places.shape)),
        reducing=_some(rng, rng.random(places.shape) < 0.3),
        isolated=_some(rng, rng.random(places.shape) < 0.1),
    )


def _some(rng: Generator, values: _Values) -> _Values | None:
    return None if rng.random() < 0.3 else values


def _boundary(rng: Generator, places: Places) -> Boundary:
    rows = places.shape[0]
    limit = rng.choice(
        [NO_LIMIT_W, 0, int(rng.integers(0, 240 * (int(places.power.sum()) // rows + 1) // 1000 + 2))], rows
    )
    return Boundary(
        voltage=rng.random(rows) < 0.8, closed=rng.random(rows) < 0.8, import_limit_w=limit.astype(np.int64)
    )


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
    ) -> PhysicsStep:
        """Return the result of a slot."""
        here = replace(circumstances, commanded=commanded, demand_percent=self._percent)
        steps, _ = self._town.step(time, {self._name: levels}, {self._name: here})
        return steps[self._name]
