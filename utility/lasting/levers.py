"""What would make microgrids last longer from this evening on, computed with the same physics and rules; pure."""

from dataclasses import replace

import numpy as np

from commonwatt.energy.controllers import Controllers, Rules, Situation
from commonwatt.energy.lasting import Floats, lasts
from commonwatt.energy.physics.boundary import Boundary
from commonwatt.energy.physics.places import Places
from commonwatt.energy.physics.step import Inputs
from commonwatt.energy.physics.town import step_alone
from commonwatt.model.units import EpochSeconds
from commonwatt.settlement.splits import Array

LEVERS = ("Storm hold from now on", "Filled from the line until then", "One battery more")


def levers(
    places: Places, level: Array, now: EpochSeconds, before: Inputs, until: EpochSeconds, after: Inputs, rules: Rules
) -> Floats:
    """Return the hours until a home is dark if the lines fail at ``until``: as it is, and by each lever, (4, M).

    ``before`` is expected from now on, ``after`` from ``until`` on. The battery more is as large as the microgrid's
    others in the mean, as full, and beside the largest: neighbours get from it.
    """
    hours, rows = max(1, (until - now) // 3600), np.arange(len(level))
    plain, held = (_connected(places, level, now, before, hours, rules, held=each) for each in (False, True))
    filled = np.maximum(plain, np.minimum(places.capacity, level + hours * places.power))
    more, mean = np.zeros_like(level), places.capacity.sum(axis=1) // np.maximum((places.capacity > 0).sum(axis=1), 1)
    more[rows, places.capacity.argmax(axis=1)] = mean
    fuller = plain + more * plain.sum(axis=1, keepdims=True) // np.maximum(places.capacity.sum(axis=1), 1)[:, None]
    larger = replace(places, capacity=places.capacity + more, power=places.power + more // 2)
    cases = [(places, plain), (places, held), (places, filled), (larger, fuller)]
    return np.stack([lasts(at, full, full >= 0, after, until, rules).first.middle for at, full in cases])


def _connected(
    places: Places, level: Array, now: EpochSeconds, expected: Inputs, hours: int, rules: Rules, *, held: bool
) -> Array:
    """Return the levels after some hours with the line."""
    controllers, boundary = Controllers(places, rules), Boundary.open_to_town(len(level))
    yes, limit = boundary.closed, boundary.import_limit_w
    for hour in range(hours):
        seen = Situation(level=level, islands=~yes, managed=yes, short=~yes, import_limit_w=limit, held=held)
        part = Inputs(load=expected.load[hour], generation=expected.generation[hour])
        level = step_alone(places, level, controllers.command(now + hour * 3600, part, seen), boundary).flows.level
    return level
