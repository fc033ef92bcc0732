"""Division of energies in many microgrids at once, exact to the milliwatt-hour."""

import numpy as np

from gateway.control.strategies.batteries import Energies


def pro_rata(totals: Energies, weights: Energies, caps: Energies) -> Energies:
    """Divide each row's total in proportion to its weights, no share above its cap.

    The odd milliwatt-hours go to the largest remainders; of equal remainders, to the first. Energy beyond all caps is
    left out. No product of a total and a weight is formed, so totals may be as large as 2**62.

    Args:
        totals: The energy to divide, one for each row.
        weights: The weights; 0: no share.
        caps: The largest share of each place.
    """
    result = np.zeros_like(caps)
    rows = np.flatnonzero((totals > 0) & ((caps > 0) & (weights > 0)).any(axis=1))
    rest = totals[rows].copy()
    caps = np.where(weights > 0, caps, 0)[rows]
    weights = np.where(caps > 0, weights[rows], 0)
    while rows.size:
        whole = weights.sum(axis=1)[:, None]
        times, over = np.divmod(rest[:, None], whole)
        share = weights * times + weights * over // whole
        full = (weights > 0) & (caps <= share)
        last = ~full.any(axis=1)
        if last.any():
            left = weights[last] * over[last] % whole[last]
            result[rows[last]] += share[last] + _odd(left, rest[last] - share[last].sum(axis=1))
        taken = np.where(full, caps, 0)
        result[rows] += taken
        rest = rest - taken.sum(axis=1)
        weights = np.where(full, 0, weights)
        more = ~last & (rest > 0) & (weights > 0).any(axis=1)
        rows, rest, caps, weights = rows[more], rest[more], caps[more], weights[more]
    return result


def water_fill(totals: Energies, caps: Energies) -> Energies:
    """Divide each row's total equally, no share above its cap; energy beyond all caps is left out."""
    return pro_rata(totals, np.ones_like(caps), caps)


def _odd(left: Energies, odd: Energies) -> Energies:
    """Return 1 for the ``odd`` largest remainders of each row, else 0."""
    order = np.argsort(-left, axis=1, kind="stable")
    result = np.zeros_like(left)
    np.put_along_axis(result, order, (np.arange(left.shape[1]) < odd[:, None]).astype(np.int64), axis=1)
    return result
