"""A projection of a coming month with an 80 % band, tested on its past; in dollars; five years as scenarios.

The middle: what the last twelve months added up to, times the part that this month usually is of such twelve months
(of its own last three years and of its group's, half each), moved half-way to how the last three months came out. The
band: the 10 % and 90 % quantiles of the relative errors that projections of the same group made in earlier months, each
projected from the months before it alone. So a band is as wide as the past was wrong (conformal prediction).

Scenarios are sums, not forecasts: none says how likely it is.

In dollars: a bill is computed from sums by hour of the day, apart for weekdays and weekends. Prices that change within
an hour, or on holidays, count by their part of the month's quarter-hours of that hour. It is a projection's estimate;
bills are computed from quarter-hours (``utility.billing``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.units import MilliwattHours
from utility.billing.rules.policies import POLICIES, CreditGoesTo
from utility.statistics.months import CELLS, MonthColumns
from utility.tariffs.tariff import Tariff

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


YEARS = 5

STEADY, TREND = "as in the last year", "as the last two years changed"

_CHANGES: Mapping[str, float] = {"1 % more each year": 0.01, "3 % more each year": 0.03, "2 % less each year": -0.02}
_STEP = "20 % more at once"
_STEP_PART = 0.20


@dataclass(frozen=True, kw_only=True)
class ScenarioYear:
    """A year of a scenario; energies are milliwatt-hours."""

    scenario: str  # its name
    year: int  # the number of the year, from 1
    used: MilliwattHours  # what the town uses
    generated: MilliwattHours  # what its panels generate: as in the last year, since the program knows of no new ones
    imported: MilliwattHours  # what the microgrids take from the town: all that is used more is taken
    exported: MilliwattHours  # what they give: all that is used less is given, once nothing more is taken


@dataclass(frozen=True, kw_only=True)
class YearBefore:
    """The last twelve whole months of the town, milliwatt-hours."""

    used: MilliwattHours  # what it used
    generated: MilliwattHours  # what its panels generated
    imported: MilliwattHours  # what the microgrids took
    exported: MilliwattHours  # what they gave
    used_before: MilliwattHours | None = None  # what it used in the twelve months before; ``None``: not known


def scenarios(last: YearBefore) -> Sequence[ScenarioYear]:
    """Return each scenario's five years."""
    growth: dict[str, tuple[float, float]] = {STEADY: (0.0, 0.0)}
    if last.used_before:
        growth[TREND] = (0.0, last.used / last.used_before - 1)
    growth |= {name: (0.0, rate) for name, rate in _CHANGES.items()}
    growth[_STEP] = (_STEP_PART, 0.0)
    return [
        _year(name, year, last, round(last.used * (1 + step) * (1 + rate) ** year))
        for name, (step, rate) in growth.items()
        for year in range(1, YEARS + 1)
    ]


def _year(name: str, year: int, last: YearBefore, used: MilliwattHours) -> ScenarioYear:
    imported = last.imported + used - last.used
    return ScenarioYear(
        scenario=name,
        year=year,
        used=used,
        generated=last.generated,
        imported=max(0, imported),
        exported=last.exported + max(0, -imported),
    )


_PUBLIC = 2
_KWH = 1e6  # milliwatt-hours of a kilowatt-hour


@dataclass(frozen=True, kw_only=True, eq=False)
class Accounts:
    """The months of accounts."""

    imported: NDArray[np.int64]  # milliwatt-hours by cell, (accounts, 48)
    exported: NDArray[np.int64]  # the same of what they gave by their own meters
    microgrids: NDArray[np.int64]  # the number of each account's microgrid, from 0
    numbers: NDArray[np.int64]  # their numbers; one that moved between microgrids comes several times


@dataclass(frozen=True, kw_only=True, eq=False)
class Microgrids:
    """The months of microgrids."""

    exported: NDArray[np.int64]  # milliwatt-hours by cell, (microgrids, 48)
    # What no account's own meter gave is for all accounts of a building's (1) and of the public (2) microgrid.
    kind: NDArray[np.int64]


def bills(accounts: Accounts, microgrids: Microgrids, tariff: Tariff, columns: MonthColumns) -> Floats:
    """Return what each account would pay for the month by a tariff, dollars, if it had both whole."""
    paid, given_back = cell_prices(tariff, columns)
    own, pool = accounts.exported, np.zeros_like(microgrids.exported)
    if POLICIES[tariff.policy.name].credit_goes_to is CreditGoesTo.UNITS:
        own, pool = np.zeros_like(own), microgrids.exported
        weights = np.ones(len(own))
    else:
        given = np.zeros_like(microgrids.exported)
        np.add.at(given, accounts.microgrids, accounts.exported)
        pool = (microgrids.exported - given) * (microgrids.kind > 0)[:, None]
        by_import = (microgrids.kind == _PUBLIC) & (getattr(tariff.policy, "farm", "") == "import")
        weights = np.where(by_import[accounts.microgrids], accounts.imported.sum(axis=1), 1.0)
    whole = np.bincount(accounts.microgrids, weights=weights, minlength=len(pool))[accounts.microgrids]
    part = weights / np.where(whole > 0, whole, 1.0)
    credited = own + pool[accounts.microgrids] * part[:, None]
    due = float(tariff.base) + (accounts.imported @ paid - credited @ given_back) / _KWH
    return np.asarray(np.maximum(due, 0.0), np.float64)


def cell_prices(tariff: Tariff, columns: MonthColumns) -> tuple[Floats, Floats]:
    """Return the mean prices of import and of credit in each cell of a month, dollars per kWh."""
    periods = tariff.periods_of(np.arange(columns.first, columns.until))
    credit = POLICIES[tariff.policy.name].credit_prices(tariff)
    count = np.maximum(np.bincount(columns.cells, minlength=CELLS), 1)
    of_import = np.array([float(price.import_) for price in tariff.prices])
    found = (prices[periods] for prices in (of_import, np.array([float(price) for price in credit])))
    paid, given_back = (np.bincount(columns.cells, weights=each, minlength=CELLS) / count for each in found)
    return paid, given_back


def cost_of(
    imported: NDArray[np.int64], exported: NDArray[np.int64], price: float, peak: tuple[int, ...], factor: float
) -> float:
    """Return what a month's energy costs at the regional price, dollars: what the microgrids took less what they gave.

    Args:
        imported: Milliwatt-hours by cell, (48).
        exported: The same.
        price: The regional price outside peak hours, dollars per kWh.
        peak: The local hours of the peak price, of each day.
        factor: The peak price as a multiple.
    """
    hours = np.arange(CELLS) % 24
    prices = np.where(np.isin(hours, peak), price * factor, price)
    return float((np.maximum(imported - exported, 0) * prices).sum() / _KWH)
