"""The attacker knows five half-hours of a home, and looks for it among the pseudonyms.

A neighbour, a visitor at the meter's display or a post of the resident's gives as much. Among 2.5 million series of
other towns, five half-hours in a row distinguished over 90 % of homes.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from utility.research.attacks.success import Success, of_hits
from utility.research.coarsening import Coarsening
from utility.research.homes import HALF_HOUR_S, Energies, Flags, Homes, Measure

KNOWN = 5  # half-hours in a row that the attacker knows

_DAY_S = 86_400
_FAR = 1e18  # distance of a home whose readings of the time are not published

Floats = NDArray[np.float64]


def windows(homes: Homes, length: int, trials: int, random: np.random.Generator) -> tuple[Energies, Energies]:
    """Return homes and first steps of windows within a UTC day in which all is known; fewer if there are none.

    Args:
        length: Steps of a window.
        trials: The windows wanted.
        random: Draws them.
    """
    day = _DAY_S // homes.step_s
    whole = np.lib.stride_tricks.sliding_window_view(homes.known, length, axis=1).all(axis=2)
    at = np.arange(whole.shape[1]) + homes.start // homes.step_s
    rows, starts = np.nonzero(whole & (at % day <= day - length))
    some = random.permutation(len(rows))[:trials]
    return rows[some], starts[some]


def find_by_half_hours(
    truth: Homes,
    published: Homes,
    coarsening: Coarsening,
    random: np.random.Generator,
    trials: int = 400,
) -> Success:
    """Return how often some known half-hours in a row find a home among the pseudonyms.

    Args:
        truth: All homes, in half-hours.
        published: The released homes, in half-hours or hours.
        coarsening: How they were made coarser, which the attacker knows.
        random: Draws the homes and the windows that are known.
        trials: How many.
    """
    homes, starts = windows(truth, KNOWN, trials, random)
    row_of = {home: row for row, home in enumerate(published.homes)}
    size = published.step_s // HALF_HOUR_S
    series, known = _stacked(published.values), _stacked(truth.values)
    hits = 0.0
    for home, start in zip(homes.tolist(), starts.tolist(), strict=True):
        first = -(-(truth.start // HALF_HOUR_S + start) // size) * size - truth.start // HALF_HOUR_S
        steps = (start + KNOWN - first) // size
        seen = known[home, first : first + steps * size].reshape(steps, size, -1).sum(axis=1)
        begin = (truth.start + first * HALF_HOUR_S - published.start) // published.step_s
        distances = _distances(series, published.known, seen, begin, published.step_s, coarsening)
        nearest = np.flatnonzero(distances <= distances.min())
        if row_of.get(truth.homes[home], -1) in nearest:
            hits += 1 / len(nearest)
    words = f"knows {KNOWN} half-hours in a row of a home; finds its pseudonym"
    return of_hits("half-hours", words, len(homes), hits, 1 / max(1, len(truth.homes)))


def _stacked(values: Mapping[Measure, Energies]) -> Energies:
    return np.stack(list(values.values()), axis=2)


def _distances(
    series: Energies, known: Flags, seen: Energies, begin: int, step_s: int, coarsening: Coarsening
) -> Floats:
    """Return how far each released home is from what was seen; the nearest of its days if days are shuffled."""
    day, length = _DAY_S // step_s, len(seen)
    begins = np.arange(begin % day, known.shape[1] - length + 1, day) if coarsening.shuffled else np.array([begin])
    at = begins[:, None] + np.arange(length)
    candidates, there = series[:, at], known[:, at].all(axis=2)
    away = np.abs(candidates - seen).sum(axis=(2, 3)).astype(np.float64)
    return np.asarray(np.where(there, away, _FAR).min(axis=1))
