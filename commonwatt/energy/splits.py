"""Exact divisions of energy among the places of many microgrids, one row each: pro rata and equal, with caps.

No product of two energies is ever formed, so that sums of a whole town stay far below 2⁶³.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

# Whole numbers, mostly milliwatt-hours: one for each microgrid (M), or for each of its places (M, P).
Array: TypeAlias = NDArray[np.int64]
Flags: TypeAlias = NDArray[np.bool_]  # yes or no, for each microgrid (M) or place (M, P)
MAX_WHOLE = 2**31  # sum of a row's weights from which products of two weights could pass 2⁶³


def row_sums(values: Array) -> Array:
    """Return the sum of each row."""
    return np.asarray(np.einsum("ij->i", values))


def counts(flags: Flags) -> Array:
    """Return how many flags of each row are set."""
    return np.asarray(np.einsum("ij->i", flags, dtype=np.int64))


def fill(total: Array, caps: Array) -> Array:
    """Divide each row's total equally, no part above its cap; energy beyond all caps is left out.

    The odd milliwatt-hours go to the first places whose cap allows it.

    Args:
        total: One for each row, (M,).
        caps: The caps, (M, P), not negative.
    """
    columns = caps.shape[1]
    if columns == 0:
        return caps.copy()
    rows = np.flatnonzero(total)
    if rows.size < len(caps):
        parts = np.zeros_like(caps)
        if rows.size:
            parts[rows] = fill(total[rows], caps[rows])
        return parts
    caps = np.minimum(caps, total[:, None])
    ordered = np.sort(caps, axis=1)
    before = np.cumsum(ordered, axis=1) - ordered
    # A place is full if all places with its cap or more could have that much.
    full = ordered <= (total[:, None] - before) // np.arange(columns, 0, -1)
    others = columns - full.sum(axis=1)
    rest = total - row_sums(ordered * full)
    base, odd = np.divmod(rest, np.maximum(others, 1))
    base = np.where(others > 0, base, ordered[:, -1])
    parts = np.minimum(caps, base[:, None])
    odd = np.where(others > 0, odd, 0)
    if odd.any():
        below = caps > base[:, None]
        parts += below & (np.cumsum(below, axis=1) <= odd[:, None])
    return parts


def pro_rata(total: Array, weights: Array, caps: Array) -> Array:
    """Divide each row's total in proportion to the weights, no part above its cap; energy beyond all caps is left out.

    The odd milliwatt-hours go to the largest remainders; of equal remainders, to the first.

    Args:
        total: One for each row, (M,).
        weights: The weights, (M, P), not negative; the sum of a row is below 2³¹.
        caps: The caps, (M, P), not negative.
    """
    if weights.size == 0 or weights.max() <= 1:
        return fill(total, caps * (weights > 0))
    open_, parts, rows = weights * (caps > 0), np.zeros_like(caps), np.arange(len(caps))
    while True:
        share, remainder = _shares(total, open_)
        full = (open_ > 0) & (caps <= share)
        unfinished = np.asarray(full.any(axis=1))
        done = np.flatnonzero(~unfinished)
        if done.size:
            share = share[done]
            _add_odd(share, total[done] - row_sums(share), open_[done], remainder[done])
            parts[rows[done]] += share
        again = np.flatnonzero(unfinished)
        if not again.size:
            return parts
        rows, taken = rows[again], (caps * full)[again]
        parts[rows] += taken
        total = total[again] - row_sums(taken)
        open_, caps = (open_ * ~full)[again], caps[again]


def in_proportion(total: Array, weights: Array) -> Array:
    """Divide each row's total in proportion to the weights; of a row without a weight, nothing is divided.

    The odd milliwatt-hours go to the largest remainders; of equal remainders, to the first.

    Args:
        total: One for each row, (M,).
        weights: The weights, (M, P), not negative.
    """
    if weights.size and row_sums(weights).max() >= MAX_WHOLE:
        # As Python's integers, slowly: no product is too large for them.
        return np.asarray(_in_proportion(total.astype(object), weights.astype(object)).astype(np.int64))
    return _in_proportion(total, weights)


def _in_proportion(total: Array, weights: Array) -> Array:
    parts, remainder = _shares(total, weights)
    _add_odd(parts, total - row_sums(parts), weights, remainder)
    return parts


def _shares(total: Array, weights: Array) -> tuple[Array, Array]:
    """Return each place's part of the total, rounded down, and the remainder of the division."""
    whole = np.maximum(row_sums(weights), 1)
    # As weights * total // whole, whose product could pass 2⁶³, with total = quotient * whole + over.
    quotient = total // whole
    product = weights * (total - quotient * whole)[:, None]
    more = product // whole[:, None]
    return weights * quotient[:, None] + more, product - more * whole[:, None]


def _add_odd(parts: Array, odd: Array, open_: Array, remainder: Array) -> None:
    """Add one to the places with the ``odd`` largest remainders of each row."""
    rows = np.flatnonzero((odd > 0) & open_.any(axis=1))
    if not rows.size:
        return
    columns = parts.shape[1]
    key = np.where(open_ > 0, remainder * columns + np.arange(columns - 1, -1, -1), -1)[rows]
    last = np.take_along_axis(np.sort(key, axis=1), (columns - odd[rows, None]).astype(np.intp), axis=1)
    parts[rows] += (key >= last) & (key >= 0)
