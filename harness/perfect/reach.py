"""How far sharing can move the batteries of homes: limits that follow from the physics, without choosing who shares.

A home uses its own sun, then its own battery, whatever is commanded; so a policy chooses only who gives to whom. One
step without sharing takes a higher level to one at least as high, and two levels to levels no farther apart. Each limit
follows from that, by the steps of the run:

- **highest**: no battery is above the level of one that is filled to its minimum in each step in which others could.
- **given**: no battery gives more, less what it receives, than one that gives all above its minimum in each step.
- **kept** and **drained**: a battery that has given is at most where it would be alone, less what it gave, and with the
  sun that it could not take alone; or it has been empty, and is at most where an empty one would be.

Losses of charging are left out, which moves each limit away.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from commonwatt.energy.physics.places import Places
from commonwatt.energy.physics.step import Flows, Inputs, within
from harness.perfect.recorded import STEPS_PER_HOUR, Homes

_Integers = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Reach:
    """The limits of batteries at the ends of hours, milliwatt-hours, by microgrid, place and hour."""

    highest: _Integers  # the highest level of a battery
    kept: _Integers  # its level if it takes no part in sharing, and the sun that it could not take by then
    drained: _Integers  # the level of one that was empty at the beginning
    given: _Integers  # the most that it has given since the beginning, beyond what it received
    gives: _Integers  # the most that it gives in the hour
    demand: _Integers  # load that its own sun does not meet in the hour
    surplus: _Integers  # sun that its own load does not need in the hour


def reach(homes: Homes) -> Reach:
    """Return the limits from the levels at the beginning of the first hour on."""
    places = replace(homes.places, loss_permille=0)
    minimum, start = places.minimum, homes.levels[0]
    highest, alone, giver, drained = start, start, start, np.zeros_like(start)
    sums = np.zeros((5, *start.shape), dtype=np.int64)
    ends: list[_Integers] = []
    for step, need in enumerate(homes.need.astype(np.int64)):
        by_itself = _step(places, alone, need)
        alone, drained = by_itself.level, _step(places, drained, need).level
        highest, giver = _step(places, highest, need).level, _step(places, giver, need).level
        # What flows in the hour, then what has flowed since the beginning.
        gives, demand, surplus = np.maximum(highest - minimum, 0), np.maximum(need, 0), np.maximum(-need, 0)
        sums += np.stack([gives, demand, surplus, by_itself.surplus, np.maximum(giver - minimum, 0)])
        helped = np.minimum(highest + np.minimum(gives.sum(axis=1, keepdims=True), places.power), minimum)
        highest, giver = np.maximum(highest, helped), np.minimum(giver, minimum)
        if (step + 1) % STEPS_PER_HOUR == 0:
            ends.append(np.stack([highest, alone, drained, *sums]))
            sums[:3] = 0
    highest, alone, drained, gives, demand, surplus, lost, given = np.stack(ends, axis=-1)
    return Reach(
        highest=highest,
        kept=alone + lost,
        drained=drained,
        given=given,
        gives=gives,
        demand=demand,
        surplus=surplus,
    )


def _step(places: Places, level: _Integers, need: _Integers) -> Flows:
    """Return a step in which nobody shares."""
    return within(places, level, Inputs(load=np.maximum(need, 0), generation=np.maximum(-need, 0)))
