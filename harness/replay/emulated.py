"""Days of an emulated town by 15 s, as a replay reads them; and what its microgrids imported and exported."""

from collections.abc import Iterator
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from commonwatt.energy.physics.places import Places
from commonwatt.energy.simulation.simulation import Simulation
from commonwatt.model.units import QUARTER_S, SLOT_S
from commonwatt.town.conditions import Conditions
from commonwatt.town.scenario import Scenario
from commonwatt.town.town import Town
from scenarios.simulation import emulated
from utility.replay.world import DAY_S, Course, course
from utility.supply.simulated.policies import POLICIES

Array = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Day:
    """An emulated day of UTC."""

    number: int  # the day, counted from 1970
    course: Course  # what its places used and generated
    levels: Array  # the levels of their batteries at its beginning
    passed: Array  # what each microgrid imported and exported, milliwatt-hours, (2, microgrids)


class Emulated:
    """Whole days of UTC of a town under a scenario."""

    def __init__(self, town: Town, scenario: Scenario) -> None:
        conditions = Conditions(scenario=scenario, zone=ZoneInfo(town.table.timezone), seed=town.table.seed)
        self._begin = conditions.begin
        self._simulation = emulated(town, conditions, POLICIES["spec"], SLOT_S)
        self._coarse = emulated(town, conditions, POLICIES["spec"], QUARTER_S)
        self.blocks: list[Places] = [grids.places for grids in self._simulation.grids]

    def days(self, count: int, every: int = 1) -> Iterator[Day]:
        """Yield one day of so many, of those that the scenario holds whole; quarter-hours are between them."""
        first = -(-self._begin // DAY_S)
        for time in range(self._begin, first * DAY_S, QUARTER_S):
            self._coarse.step(time)
        _take(self._simulation, self._coarse)
        for day in range(first, first + count * every, every):
            yield self._day(day)
            if every > 1:
                _take(self._coarse, self._simulation)
                for time in range((day + 1) * DAY_S, (day + every) * DAY_S, QUARTER_S):
                    self._coarse.step(time)
                _take(self._simulation, self._coarse)

    def _day(self, day: int) -> Day:
        passed = np.zeros((2, sum(len(one.microgrids) for one in self.blocks)), np.int64)
        users = np.concatenate([np.broadcast_to(one.users, one.shape).ravel() for one in self.blocks])
        read: list[list[Array]] = [[], [], [], [self._levels()]]
        for time in range(day * DAY_S, (day + 1) * DAY_S, SLOT_S):
            steps = self._simulation.step(time)
            flows = [step.flows for step in steps]
            read[0].append(_all([f.demand + f.received for f in flows]) * users)
            read[1].append(_all([f.surplus + f.pushed + f.given for f in flows]))
            read[2].append(_all([f.generation for f in flows]))
            read[3].append(self._levels())
            passed += [_all([s.exchange.imported for s in steps]), _all([s.exchange.exported for s in steps])]
        begin = read[3].pop(0)
        every = np.stack([np.stack(each, axis=1) for each in read])
        return Day(number=day, course=course(every, begin, self.blocks[0].loss_permille), levels=begin, passed=passed)

    def _levels(self) -> Array:
        return _all([grids.level for grids in self._simulation.grids])


def _all(values: list[Array]) -> Array:
    return np.concatenate([each.ravel() for each in values])


def _take(ours: Simulation, theirs: Simulation) -> None:
    """Go on from where another simulation of the same town is."""
    for mine, other in zip(ours.grids, theirs.grids, strict=True):
        for name in ("level", "is_open", "stable_since", "cold_s", "delay_s"):
            setattr(mine, name, getattr(other, name).copy())
    ours.plant_level = theirs.plant_level
