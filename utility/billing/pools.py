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
from utility.billing.money import cent_amount, divided, in_cents, rounded

Active = NDArray[np.bool_]  # which places take part in each quarter, (places, quarters)


def evenly(energy: Energies, active: Active, first: Quarter) -> Energies:
    """Divide energy equally among the places that take part; without any, nobody gets it.

    The odd milliwatt-hours of a quarter go to places in turn: to those from number (quarter mod places) on.

    Args:
        energy: Milliwatt-hours, (quarters).
        active: The places that take part.
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


def whole_cents(apartments: Sequence[Sequence[int]], month_quarters: int) -> list[list[int]]:
    """Return the credits of a building's apartments in whole cents, which add up to the building's credit in cents.

    The building's credit is rounded once. It is divided among the apartments, and the credit of an apartment among
    its lines: each is rounded down, and the cents then lacking go to the largest remainders.

    Args:
        apartments: The exact amounts of each apartment's lines.
        month_quarters: The quarters of the month, for the unit of amounts.
    """
    _, wholes = rounded([sum(lines) for lines in apartments], month_quarters)
    cent = cent_amount(month_quarters)
    return [
        [cent * cents for cents in in_cents(lines, whole, month_quarters)]
        for lines, whole in zip(apartments, wholes, strict=True)
    ]


def _same(active: Active) -> list[tuple[int, int]]:
    """Return the stretches of quarters in which the same places take part."""
    changed = np.flatnonzero((active[:, 1:] != active[:, :-1]).any(axis=0)) + 1
    bounds = [0, *changed.tolist(), active.shape[1]]
    return list(pairwise(bounds))
