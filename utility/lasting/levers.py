"""What would make microgrids last longer from this evening on, computed with the same physics and rules; pure."""

from dataclasses import replace

import numpy as np

from commonwatt.energy.controllers import Controllers, Rules, Situation
from commonwatt.energy.lasting import Floats, lasts
from commonwatt.energy.physics.boundary import Boundary
from commonwatt.energy.physics.places import Places
from commonwatt.energy.physics.step import Inputs
from commonwatt.energy.physics.town import step_alone
from commonwatt.energy.strategies import STRATEGIES
from commonwatt.model.units import EpochSeconds
from commonwatt.settlement.splits import Array

LEVERS = ("Storm hold from now on", "Filled from the line until then", "One battery more")


def rules_of(strategy: str) -> Rules:
    """Return what controllers do in an island."""
    return Rules(sharing=STRATEGIES[strategy], reduces=True, sheds=True)


def levers(
    places: Places, level: Array, now: EpochSeconds, before: Inputs, until: EpochSeconds, after: Inputs, rules: Rules
) -> Floats:
    """Return the hours until a home is dark if the lines fail at ``until``: as it is, and by each lever, (4, M).

    Args:
        level: Level of each battery now.
        before: What is expected of the hours from now.
        after: What is expected of the hours from ``until``.
    """
    hours, known = max(1, (until - now) // 3600), np.ones(places.shape, np.bool_)
    plain, held = (_connected(places, level, now, before, hours, rules, held=each) for each in (False, True))
    filled = np.maximum(plain, np.minimum(places.capacity, level + hours * places.power))
    # As large as those of the microgrid, as full, and where the largest is: neighbours get from it.
    of = places.capacity.argmax(axis=1), np.arange(len(level))
    mean = places.capacity.sum(axis=1) // np.maximum((places.capacity > 0).sum(axis=1), 1)
    more = {name: getattr(places, name).copy() for name in ("capacity", "power")}
    fuller = plain.copy()
    fuller[of[::-1]] += mean * plain.sum(axis=1) // np.maximum(places.capacity.sum(axis=1), 1)
    more["capacity"][of[::-1]] += mean
    more["power"][of[::-1]] += mean // 2
    cases = [(places, plain), (places, held), (places, filled), (replace(places, **more), fuller)]
    return np.stack([lasts(at, full, known, after, until, rules).first.middle for at, full in cases])


def _connected(
    places: Places, level: Array, now: EpochSeconds, expected: Inputs, hours: int, rules: Rules, *, held: bool
) -> Array:
    """Return the levels after some hours with the line."""
    controllers, boundary = Controllers(places, rules), Boundary.open_to_town(len(level))
    yes, limit = boundary.closed, boundary.import_limit_w
    for hour in range(hours):
        seen = Situation(level=level, islands=~yes, managed=yes, short=~yes, import_limit_w=limit, held=held)
        part = Inputs(load=expected.load[hour], generation=expected.generation[hour])
        inputs = controllers.command(now + hour * 3600, part, seen)
        level = step_alone(places, level, inputs, boundary).flows.level
    return level
