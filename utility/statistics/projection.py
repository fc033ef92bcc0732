"""A projection of a coming month with an 80 % band, from the months before; explainable, and tested on its own past.

The middle: what the last twelve months added up to, times the part that this month usually is of such twelve months
(of its own last three years and of its group's, half each), moved half-way to how the last three months came out. The
band: the 10 % and 90 % quantiles of the relative errors that projections of the same group made in earlier months, each
projected from the months before it alone. So a band is as wide as the past was wrong (conformal prediction).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LEVELS = (0.1, 0.5, 0.9)  # the quantiles of a projection; the band of 80 % lies between the first and the last

YEAR = 12
# Fewest known months before a projection: a year, and the same month of the year before with its own year.
MIN_MONTHS = 2 * YEAR
NEXT_MONTH = 2  # months from the last whole one to the next month: the present month is not over yet

_MOST_YEARS = 3
_RECENT = 3
_HALF = 0.5
_MOST_DRIFT = 2.0
# An error is relative to the projection plus this part of a mean month, so that months near 0 count little.
_FLOOR = 0.1
MIN_ERRORS = 8  # fewest earlier errors of a group for a band


@dataclass(frozen=True, kw_only=True, eq=False)
class Panel:
    """Months of several subjects."""

    values: Floats  # what is projected, not below 0; NaN: not known, (subjects, months)
    groups: NDArray[np.int64]  # the number of each subject's group, whose months have like parts in a year, (subjects)
    # The number of the group whose errors make a subject's band; ``None``: ``groups``.
    errors: NDArray[np.int64] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Projected:
    """Projections of a month."""

    quantiles: Floats  # by ``LEVELS``, (subjects, 3); NaN: too few months or errors
    actual: Floats  # what came; NaN: not known yet, (subjects)


def project(panel: Panel, first: int | None = None, ahead: int = NEXT_MONTH) -> list[Projected]:
    """Return the projections of each month from ``first`` to the one ``ahead`` months after the last.

    Each is made of the months until ``ahead`` before it alone, its band too.

    Args:
        panel: The months.
        first: The first month to project; ``None``: only the last one.
        ahead: How many months ahead is projected.
    """
    count, months = panel.values.shape
    alike = panel.groups if panel.errors is None else panel.errors
    begin, last = MIN_MONTHS + ahead - 1, months + ahead - 1
    if last < begin:
        return [Projected(quantiles=np.full((count, len(LEVELS)), np.nan), actual=np.full(count, np.nan))]
    errors: list[Floats] = []
    found = []
    for month in range(begin, last + 1):
        center, scale = usual(panel, month, ahead)
        if month >= (last if first is None else first):
            actual = panel.values[:, month] if month < months else np.full(count, np.nan)
            # The errors of the months just before are not known yet when the projection is made.
            known = errors[: max(0, month - ahead + 1 - begin)]
            found.append(Projected(quantiles=_band(alike, known, center, scale), actual=actual))
        if month < months:
            errors.append((panel.values[:, month] - center) / scale)
    return found


def usual(panel: Panel, month: int, ahead: int) -> tuple[Floats, Floats]:
    """Return the middle of the projection of a month, and what its error is relative to."""
    base, scale = _base(panel, month, ahead)
    before = range(month - ahead - _RECENT + 1, month - ahead + 1)
    if before.start < MIN_MONTHS + ahead - 1:
        return base, scale
    recent = [_base(panel, each, ahead) for each in before]
    floor = np.sum([each - middle for middle, each in recent], axis=0)
    came = panel.values[:, before.start : before.stop].sum(axis=1)
    drift = _ratio(came + floor, np.sum([middle for middle, _ in recent], axis=0) + floor, 1.0)
    center = base * np.clip(drift, 1 / _MOST_DRIFT, _MOST_DRIFT) ** _HALF
    return center, center + (scale - base)


def coverage(projected: Sequence[Projected]) -> tuple[int, float]:
    """Return how many projections had a band and an outcome, and the part of them whose band held it."""
    inside, count = 0, 0
    for each in projected:
        known = np.isfinite(each.quantiles).all(axis=1) & np.isfinite(each.actual)
        low, high = each.quantiles[known, 0], each.quantiles[known, -1]
        inside += int(((low <= each.actual[known]) & (each.actual[known] <= high)).sum())
        count += int(known.sum())
    return count, inside / max(count, 1)


def _base(panel: Panel, month: int, ahead: int) -> tuple[Floats, Floats]:
    """Return the last year's sum times the usual part of the month, and what its error is relative to."""
    years = min(_MOST_YEARS, (month - ahead + 1) // YEAR - 1)
    backs = range(YEAR, years * YEAR + 1, YEAR)
    came = np.array([panel.values[:, month - back] for back in backs])
    sums = np.array([year_before(panel.values, month - back, ahead) for back in backs])
    known = np.isfinite(came) & np.isfinite(sums)
    total_came, total = np.where(known, came, 0).sum(axis=0), np.where(known, sums, 0).sum(axis=0)
    of_group = _of_groups(panel.groups, total_came, total)
    year = year_before(panel.values, month, ahead)
    center = year * (_ratio(total_came, total, of_group) + of_group) / 2
    # Nothing in the year before: NaN.
    return center, np.where(year > 0, center + _FLOOR * year / YEAR, np.nan)


def year_before(values: Floats, month: int, ahead: int) -> Floats:
    """Return the sum of the last twelve months that are known ``ahead`` months before a month."""
    end = month - ahead + 1
    return np.asarray(values[:, max(0, end - YEAR) : max(0, end)].sum(axis=1), np.float64)


def _ratio(one: Floats, other: Floats, without: Floats | float) -> Floats:
    """Return one / other; ``without`` where the other is 0 or not known."""
    known = other > 0
    return np.where(known, one / np.where(known, other, 1.0), without)


def _of_groups(groups: NDArray[np.int64], came: Floats, years: Floats) -> Floats:
    """Return the usual part of the month in each subject's group."""
    size = int(groups.max(initial=0)) + 1
    of_came, of_years = (np.bincount(groups, weights=each, minlength=size) for each in (came, years))
    return _ratio(of_came.astype(np.float64), of_years.astype(np.float64), 1 / YEAR)[groups]


def _band(groups: NDArray[np.int64], errors: Sequence[Floats], center: Floats, scale: Floats) -> Floats:
    found = np.full((len(center), len(LEVELS)), np.nan)
    if not errors:
        return found
    past = np.stack(errors, axis=1)
    for group in np.unique(groups):
        ours = groups == group
        known = np.sort(past[ours][np.isfinite(past[ours])])
        if len(known) >= MIN_ERRORS:
            found[ours] = center[ours, None] + scale[ours, None] * _quantiles(known)
    return np.asarray(np.maximum(found, 0), np.float64)


def _quantiles(known: Floats) -> Floats:
    """Return the quantiles of sorted errors; the outer ones one place further out, as conformal prediction needs."""
    count = len(known)
    low = max(0, int(np.floor(LEVELS[0] * (count + 1))) - 1)
    return np.array([known[low], np.median(known), known[count - 1 - low]])
