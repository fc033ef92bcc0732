"""Energy that earns credit for several places: a building's, the solar farm's, or a whole microgrid's (U2, P5).

Each quarter-hour is divided in whole milliwatt-hours, so that the parts add up to it exactly.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.units import Quarter
from commonwatt.settlement.settled import Energies
from utility.billing.money import divided

Active = NDArray[np.bool_]
"""Which places take part in each quarter, (places, quarters)."""


def evenly(energy: Energies, active: Active, first: Quarter) -> Energies:
    """Divide energy equally among the places that take part; without any, nobody gets it.

    The odd milliwatt-hours of a quarter go to places in turn: to those from number (quarter mod places) on.

    Args:
        energy: Milliwatt-hours, (quarters).
        active: The places that take part.
        first: The first quarter.
    """
    parts = np.zeros(active.shape, np.int64)
    for begin, end in _same(active):
        takers = np.flatnonzero(active[:, begin])
        if not takers.size:
            continue
        base, odd = np.divmod(energy[begin:end], takers.size)
        parts[takers, begin:end] = base + (_turns(takers.size, first + begin, end - begin) < odd)
    return parts


@lru_cache(maxsize=4)
def _turns(places: int, first: Quarter, length: int) -> Energies:
    """Return how many places come before each place in the turn of each quarter, (places, quarters)."""
    return np.asarray((np.arange(places)[:, None] - np.arange(first, first + length)) % places, np.int64)


def by_weight(energy: Energies, active: Active, weights: Sequence[int]) -> Energies:
    """Divide energy in proportion to weights; the odd milliwatt-hours go to the largest remainders.

    Args:
        energy: Milliwatt-hours, (quarters).
        active: The places that take part.
        weights: A weight for each place.
    """
    parts = np.zeros(active.shape, np.int64)
    for begin, end in _same(active):
        present = [weight if taking else 0 for weight, taking in zip(weights, active[:, begin], strict=True)]
        for quarter in np.flatnonzero(energy[begin:end]) + begin:
            parts[:, quarter] = divided(int(energy[quarter]), present)
    return parts


def _same(active: Active) -> list[tuple[int, int]]:
    """Return the stretches of quarters in which the same places take part."""
    changed = np.flatnonzero((active[:, 1:] != active[:, :-1]).any(axis=0)) + 1
    bounds = [0, *changed.tolist(), active.shape[1]]
    return list(pairwise(bounds))
