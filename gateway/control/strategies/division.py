"""Division of energies in many microgrids at once, exact to the milliwatt-hour.

The odd milliwatt-hours of a division go to the largest remainders; of equal remainders, to the first places. No
product of a total and a weight is formed: a total may be as large as 2**62, and so may the sum of a microgrid's places,
each counted with its largest cap.
"""

import numpy as np

from gateway.control.strategies.batteries import Energies, any_place


def water_fill(totals: Energies, caps: Energies) -> Energies:
    """Divide each row's total equally, no share above its cap; energy beyond all caps is left out."""
    places = caps.shape[1]
    ordered = np.sort(caps, axis=1)
    before = np.cumsum(ordered, axis=1) - ordered
    # The smallest caps are filled, each as long as all larger ones can have as much.
    filled = before + ordered * (places - np.arange(places)) <= totals[:, None]
    count = filled.sum(axis=1)
    rest = totals - np.where(filled, ordered, 0).sum(axis=1)
    share, odd = np.divmod(rest, np.maximum(places - count, 1))
    free = caps > share[:, None]
    first = np.cumsum(free, axis=1) <= odd[:, None]
    open_rows = (count < places)[:, None]
    return np.where(free & open_rows, share[:, None] + first, caps)


def pro_rata(totals: Energies, weights: Energies, caps: Energies) -> Energies:
    """Divide each row's total in proportion to its weights, no share above its cap; energy beyond all is left out.

    Args:
        totals: The energy to divide, one for each row.
        weights: The weights, at most 1,000; 0: no share.
        caps: The largest share of each place.
    """
    caps = np.where(weights > 0, caps, 0)
    uneven = any_place((weights > 0) & (weights < weights.max(axis=1, keepdims=True, initial=0)))
    result = water_fill(totals, caps)
    if uneven.any():
        result[uneven] = _by_weight(totals[uneven], weights[uneven], caps[uneven])
    return result


def _by_weight(totals: Energies, weights: Energies, caps: Energies) -> Energies:
    """Fill the places whose cap is below their share, and divide the rest again, until no more are filled."""
    result = np.zeros_like(caps)
    rows = np.flatnonzero((totals > 0) & any_place(caps > 0))
    rest, caps = totals[rows], caps[rows]
    weights = np.where(caps > 0, weights[rows], 0)
    while rows.size:
        whole = weights.sum(axis=1)[:, None]
        times, over = np.divmod(rest[:, None], whole)
        share = weights * times + weights * over // whole
        full = (weights > 0) & (caps <= share)
        last = ~any_place(full)
        if last.any():
            left = weights[last] * over[last] % whole[last]
            result[rows[last]] += share[last] + _odd(left, rest[last] - share[last].sum(axis=1))
        taken = np.where(full, caps, 0)
        result[rows] += taken
        rest = rest - taken.sum(axis=1)
        weights = np.where(full, 0, weights)
        more = ~last & (rest > 0) & any_place(weights > 0)
        rows, rest, caps, weights = rows[more], rest[more], caps[more], weights[more]
    return result


def _odd(left: Energies, odd: Energies) -> Energies:
    """Return 1 for the ``odd`` largest remainders of each row, else 0."""
    order = np.argsort(-left, axis=1, kind="stable")
    result = np.zeros_like(left)
    np.put_along_axis(result, order, (np.arange(left.shape[1]) < odd[:, None]).astype(np.int64), axis=1)
    return result
