"""Cold load: what places take after a time without energy, since their thermostats and heaters start together (C5).

A place is without energy in a step in which less than half of its ordinary load is met. From the step after its return
it is cold: for as long as it was without energy, at most half an hour, it takes three times its ordinary load, at most
what its service carries.
"""

import numpy as np

from commonwatt.energy.physics.places import Places
from commonwatt.settlement.splits import Array

COLD_PERCENT = 300  # load of a cold place, as a percentage of its ordinary load
COLD_S = 1800  # most seconds for which a place is cold


def cold_load(places: Places, ordinary: Array, cold_s: Array) -> Array:
    """Return the loads in a step, by the ordinary loads and the state ``cold_s`` at its start (``cold_after``)."""
    most = np.maximum(places.service, ordinary)
    return np.where(cold_s > 0, np.minimum(ordinary * COLD_PERCENT // 100, most), ordinary)


def cold_after(places: Places, ordinary: Array, served: Array, cold_s: Array) -> Array:
    """Return for how many seconds places are still cold after a step; negative: so far without energy, (M, P).

    Args:
        ordinary: Their ordinary loads in the step.
        served: Their loads that were met.
        cold_s: The state at its start.
    """
    without = np.maximum(-np.abs(cold_s) - places.step_s, -COLD_S)
    with_energy = np.where(cold_s < 0, -cold_s, np.maximum(cold_s - places.step_s, 0))
    return np.where(served * 2 < ordinary, without, with_energy)
