"""A town's days under a scenario and a policy: physics, control and supply in one loop, without messages.

The order of a step: what the world does, what the utility buys and rations, what the controllers command, the physics.
The sun and the loads are handed in: the emulator's surroundings, or stored readings. A run repeats to the byte.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from commonwatt.energy.controllers import ControllerRules, Controllers, StepSituation
from commonwatt.energy.figures import KINDS, HourSample, RunFigures, added
from commonwatt.energy.places import Places, blocks_of, cold_after, cold_load, use_up
from commonwatt.energy.plant import Plant, PlantOrder, PlantStep, plant_of
from commonwatt.energy.step import Boundary, Inputs, MicrogridsStep, PlantInputs, step_town
from commonwatt.model.control import STABLE_S, UNMANAGED_S, SupplyState, return_delay_s
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import EpochSeconds, MilliwattHours
from commonwatt.town.scenario import GROUPS, ChangedBattery, Conditions, Scenario
from commonwatt.town.town import Meter, Town

KWH = 10**6  # milliwatt-hours in a kilowatt-hour


def changed(town: Town, scenario: Scenario) -> Town:
    """Return a town with the batteries of a scenario.

    Raises:
        ConfigError: An outage names a microgrid that there is not, or an entry no battery.
    """
    if unknown := {one.microgrid for one in scenario.outage} - {"", *town.microgrids}:
        raise ConfigError(f"outage: there is no microgrid {min(unknown)}")
    for entry in scenario.battery:
        grids = {
            name: replace(grid, meters=tuple(_with(meter, entry) for meter in grid.meters))
            for name, grid in town.microgrids.items()
        }
        if grids == town.microgrids:
            raise ConfigError(
                f"battery: nothing changes at {entry.microgrid or 'every microgrid'}, {entry.place or 'all'}"
            )
        town = replace(town, microgrids=grids)
    return town


def _with(meter: Meter, entry: ChangedBattery) -> Meter:
    is_meant = entry.microgrid in ("", meter.microgrid) and entry.place in ("", meter.location)
    if meter.battery is None or not is_meant:
        return meter
    kept = entry.model_dump(include={"minimum_percent", "weight"}, exclude_none=True)
    capacity = meter.battery.capacity if entry.kwh is None else round(entry.kwh * KWH)
    return replace(meter, battery=replace(meter.battery, capacity=capacity, **kept))


@dataclass(kw_only=True, eq=False)
class _Grids:
    """The state of the microgrids of one layout, beside their levels."""

    places: Places  # their places
    controllers: Controllers  # their controllers
    level: NDArray[np.int64]  # level of each battery
    ordinary: NDArray[np.int64]  # the ordinary load of each place in the step
    cold: NDArray[np.int64]  # what it asks for beyond that, since it was without energy
    cold_s: NDArray[np.int64]  # for how long each place is still cold (``cold_after``)
    is_open: NDArray[np.bool_]  # which boundary switches are open
    stable_since: NDArray[np.int64]  # since when each feeder has had voltage
    # Each microgrid's own delay before it returns, seconds; drawn when its feeder's voltage returns.
    delay_s: NDArray[np.int64]


class SimulatedWorld(Protocol):
    """The sun and the loads of microgrids without commands, by step; the levels at the beginning. By layout."""

    def at(self, time: EpochSeconds) -> list[Inputs]: ...  # noqa: D102
    def levels(self, percent: int) -> list[NDArray[np.int64]]: ...  # noqa: D102


class TownPolicy(Protocol):
    """What controls the town (``utility.supply.simulated``)."""

    @property
    def rules(self) -> ControllerRules: ...  # noqa: D102
    def utility(self, town: Town, conditions: Conditions, plant: Plant, blocks: list[Places]) -> "Utility": ...  # noqa: D102


class Utility(Protocol):
    """The utility's decisions, from the meters' readings."""

    def decide(  # noqa: D102
        self, time: EpochSeconds, level: MilliwattHours, supply: SupplyState, *, reached: bool, alive: bool
    ) -> tuple[PlantOrder, list[NDArray[np.int64]]]: ...
    def measured(self, time: EpochSeconds, steps: list[MicrogridsStep]) -> None: ...  # noqa: D102


class Simulation:
    """A town under a scenario and a policy."""

    def __init__(
        self,
        town: Town,
        conditions: Conditions,
        policy: TownPolicy,
        step_s: int,
        world_of: Callable[[list[Places]], SimulatedWorld],
    ) -> None:
        """Take the town, what happens to it, what controls it, and what makes its world from its microgrids."""
        self.figures = RunFigures()  # what was counted so far
        self._town = town
        self._conditions = conditions
        self._step_s = step_s
        blocks = blocks_of(town, town.microgrids.values(), step_s)
        self._world = world_of(blocks)
        self._plant = plant_of(town, step_s)
        self._utility = policy.utility(town, conditions, self._plant, blocks)
        percent = conditions.scenario.level_percent
        # Level of the plant's battery, milliwatt-hours.
        self.plant_level: MilliwattHours = self._plant.capacity * percent // 100
        levels = zip(blocks, self._world.levels(percent), strict=True)
        # The microgrids, by layout.
        self.grids = [self._grids_of(places, level, policy.rules) for places, level in levels]
        self.boundaries: list[Boundary] = []  # the boundaries of the microgrids in the last step, by layout
        for grids in self.grids:
            kind = self.figures.kinds[grids.places.kind]
            kind.level_begin = kind.level_end = kind.level_end + int(grids.level.sum())
        self.figures.plant["level_begin"] = self.plant_level
        self._hour = [0, 0]
        self._residential = sum(len(g.places.microgrids) for g in self.grids if g.places.kind == "residential")

    def run(self, days: int | None = None, tell: Callable[[float], None] = lambda _: None) -> RunFigures:
        """Run all days; return the figures.

        Args:
            days: How many; ``None``: those of the scenario.
            tell: Takes the part that is done, 0 to 1, once a day.
        """
        begin, end = self._conditions.begin, self._conditions.end(days)
        for time in range(begin, end, self._step_s):
            self.step(time)
            if (time - begin) % 86_400 == 0:
                tell((time - begin) / (end - begin))
        return self.figures

    def _grids_of(self, places: Places, level: NDArray[np.int64], rules: ControllerRules) -> _Grids:
        rows = len(places.microgrids)
        return _Grids(
            places=places,
            controllers=Controllers(places, rules),
            level=level,
            ordinary=np.zeros(places.shape, dtype=np.int64),
            cold=np.zeros(places.shape, dtype=np.int64),
            cold_s=np.zeros(places.shape, dtype=np.int64),
            is_open=np.zeros(rows, dtype=np.bool_),
            stable_since=np.zeros(rows, dtype=np.int64),
            delay_s=np.zeros(rows, dtype=np.int64),
        )

    def step(self, time: EpochSeconds) -> list[MicrogridsStep]:
        """Step the town by one step; return the result for each layout of microgrids."""
        conditions = self._conditions
        price = conditions.price_percent(time, self._town.table)
        supply = conditions.supply(time)
        reached = not conditions.is_out("broadband", time)
        alive = not conditions.is_out("town_line", time)
        orders, limits = self._utility.decide(time, self.plant_level, supply, reached=reached, alive=alive)
        inputs, boundaries = [], []
        for grids, usual, limit in zip(self.grids, self._world.at(time), limits, strict=True):
            voltage, managed = self._outside(grids, time)
            self._switch(grids, time, voltage, managed)
            seen = StepSituation(
                level=grids.level,
                islands=grids.is_open,
                managed=managed,
                short=np.full(len(managed), reached and supply is not SupplyState.NORMAL),
                import_limit_w=limit,
                held=conditions.is_held(time),
            )
            inputs.append(grids.controllers.command(time, self._demanded(grids, usual, time), seen))
            boundaries.append(Boundary(voltage=voltage, closed=~grids.is_open, import_limit_w=limit))
        self.boundaries = boundaries
        steps, plant = step_town(
            [grids.places for grids in self.grids],
            [grids.level for grids in self.grids],
            inputs,
            boundaries,
            self._plant,
            PlantInputs(
                level=self.plant_level,
                order=orders,
                supply=supply,
                alive=alive,
            ),
        )
        self.plant_level = plant.level
        for grids, one in zip(self.grids, steps, strict=True):
            grids.level = one.flows.level
            grids.cold_s = cold_after(grids.places, grids.ordinary, one.flows.served, grids.cold_s)
        self._utility.measured(time, steps)
        self.figures.decided = added(self.figures.decided, time, inputs, limits, orders, plant.level)
        self._count(time, inputs, steps, plant, price)
        return steps

    # The world

    def _outside(self, grids: _Grids, time: EpochSeconds) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return which feeders have voltage, and which controllers work."""
        rows, names = len(grids.places.microgrids), grids.places.microgrids
        feeder, controller = (
            ~np.isin(names, sorted(self._conditions.named(what, time))) for what in ("feeder", "controller")
        )
        if grids.places.kind != "residential":
            return feeder, controller
        # The order of residential microgrids in the town decides whom a partial fault meets, whatever their layout.
        first = sum(
            len(g.places.microgrids) for g in self.grids[: self.grids.index(grids)] if g.places.kind == "residential"
        )
        members = slice(first, first + rows)
        feeders, controllers = (
            self._conditions.out(what, time, self._residential)[members] for what in ("feeder", "controller")
        )
        return feeder & ~feeders, controller & ~controllers

    def _switch(
        self, grids: _Grids, time: EpochSeconds, voltage: NDArray[np.bool_], managed: NDArray[np.bool_]
    ) -> None:
        """Trip switches on dead feeders; close those whose voltage has been stable for the wait and their own delay."""
        for row in np.flatnonzero(voltage & (grids.stable_since < 0)):
            is_public = grids.places.kind == "public"
            grids.delay_s[row] = return_delay_s(grids.places.microgrids[row], time, is_public=is_public)
        grids.stable_since = np.where(voltage, np.where(grids.stable_since < 0, time, grids.stable_since), -1)
        wait_s = np.where(managed, STABLE_S, UNMANAGED_S) + grids.delay_s
        waits = grids.is_open & voltage & (time - grids.stable_since < wait_s)
        grids.is_open = ~voltage | waits

    def _demanded(self, grids: _Grids, usual: Inputs, time: EpochSeconds) -> Inputs:
        percent = self._conditions.demand_percent(GROUPS[grids.places.kind], time)
        load = usual.load if percent is None else np.rint(usual.load * (percent / 100)).astype(np.int64)
        grids.ordinary, load = load, cold_load(grids.places, load, grids.cold_s)
        grids.cold = load - grids.ordinary
        drop = self._conditions.drop(time)
        if drop is not None and grids.places.kind == "residential":
            for row in range(len(load)):
                use_up(grids.places, load, grids.level, row, drop, row)
        return replace(usual, load=load)

    # Figures

    def _count(
        self, time: EpochSeconds, inputs: list[Inputs], steps: list[MicrogridsStep], plant: PlantStep, price: int
    ) -> None:
        figures = self.figures
        unserved = figures.unserved
        figures.switches = sum(grids.controllers.switches for grids in self.grids)
        ordinary = [one.load - grids.cold for one, grids in zip(inputs, self.grids, strict=True)]
        figures.add([grids.places for grids in self.grids], ordinary, inputs, steps, plant, price)
        self._hour[0] += plant.bought
        self._hour[1] += figures.unserved - unserved
        end = time + self._step_s
        if end % 3600:
            return
        capacity = dict.fromkeys(KINDS, 0)
        for grids in self.grids:
            capacity[grids.places.kind] += int(grids.places.capacity.sum())
        figures.samples.append(
            HourSample(
                time=end,
                levels_percent={k: 100 * of.level_end / max(capacity[k], 1) for k, of in figures.kinds.items()},
                plant_percent=100 * self.plant_level / self._plant.capacity if self._plant.capacity else 0.0,
                bought=self._hour[0],
                unserved=self._hour[1],
                islands=sum(int(grids.is_open.sum()) for grids in self.grids),
                price_percent=price,
            )
        )
        self._hour = [0, 0]
