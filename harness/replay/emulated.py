"""Days of an emulated town by 15 s, as a replay reads them; and what its microgrids imported and exported."""

from collections.abc import Iterator
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from commonwatt.energy.physics.places import Places
from commonwatt.model.units import SLOT_S
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
        self.conditions = Conditions(scenario=scenario, zone=ZoneInfo(town.table.timezone), seed=town.table.seed)
        self._simulation = emulated(town, self.conditions, POLICIES["spec"], SLOT_S)
        self.blocks: list[Places] = [grids.places for grids in self._simulation.grids]

    def days(self, count: int) -> Iterator[Day]:
        """Yield the first days of UTC that the scenario holds whole."""
        first = -(-self.conditions.begin // DAY_S)
        for time in range(self.conditions.begin, first * DAY_S, SLOT_S):
            self._simulation.step(time)
        for day in range(first, first + count):
            yield self._day(day)

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
