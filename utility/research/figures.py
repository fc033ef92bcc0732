"""What coarser data costs and buys: the error of figures that researchers usually compute, attacks (U7)."""

from dataclasses import dataclass
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from utility.research.attacks.bills import find_by_bills
from utility.research.attacks.half_hours import find_by_half_hours
from utility.research.attacks.success import Success
from utility.research.coarsening import Coarsening
from utility.research.groups import OpenSums
from utility.research.homes import HALF_HOUR_S, Homes, Measure

_DAY_S = 86_400

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Errors:
    """How wrong a researcher's figures get, as parts of the true ones."""

    curve: float  # mean error of the load curve: the mean home's use by time of day
    peak: float  # error of the highest use of all homes together
    home_peak: float | None  # mean error of the highest use of each home; ``None``: homes are not distinguished


def errors_of(truth: Homes, released: Homes) -> Errors:
    """Return the errors of figures from released homes beside those of all homes as measured."""
    true, seen = _power(truth), _power(released)
    row_of = {home: row for row, home in enumerate(truth.homes)}
    rows = [row_of[home] for home in released.homes]
    peaks, wrong = true.max(axis=1)[rows], seen.max(axis=1)
    return Errors(
        curve=_curve_error(truth, true.mean(axis=0), released.step_s, seen.mean(axis=0)),
        peak=float(abs(seen.mean(axis=0).max() / true.mean(axis=0).max() - 1)),
        home_peak=float((np.abs(wrong - peaks) / np.maximum(peaks, 1)).mean()),
    )


def errors_of_open(truth: Homes, sums: OpenSums) -> Errors:
    """Return the same for the open tier; a sum that is not shown counts as the mean of the other groups' homes."""
    rows = [row for group in sums.groups for row in group.rows]
    true = _power(truth)[rows].mean(axis=0)
    shown = sums.shown[Measure.USED]
    sizes = np.array([len(group.rows) for group in sums.groups])[:, None] * shown
    seen = sums.values[Measure.USED].sum(axis=0) / np.maximum(sizes.sum(axis=0), 1) * 3600 / sums.step_s
    return Errors(
        curve=_curve_error(truth, true, sums.step_s, seen),
        peak=float(abs(seen.max() / true.max() - 1)),
        home_peak=None,
    )


def _power(homes: Homes) -> Floats:
    """Return each home's use, milliwatts; unknown steps count as nothing."""
    return np.asarray(homes.values[Measure.USED] * 3600 / homes.step_s)


def _curve_error(truth: Homes, true: Floats, step_s: int, seen: Floats) -> float:
    usual, found = _by_time(true, truth.step_s), np.repeat(_by_time(seen, step_s), step_s // truth.step_s)
    return float(np.abs(found - usual).mean() / usual.mean())


def _by_time(series: Floats, step_s: int) -> Floats:
    day = _DAY_S // step_s
    return np.array([series[at::day].mean() for at in range(day)])


def attacks_on_pseudonyms(
    truth: Homes, released: Homes, option: Coarsening, zone: ZoneInfo, random: np.random.Generator, trials: int = 400
) -> tuple[Success, ...]:
    """Return the success of each attack on a pseudonymous release.

    Args:
        truth: All homes, in half-hours.
        option: How they were made coarser.
        zone: The town's time zone.
        random: Draws what the attacker knows.
        trials: How many homes are attacked.
    """
    seen = released.in_steps(max(HALF_HOUR_S, released.step_s))
    return (
        find_by_half_hours(truth, seen, option, random, trials),
        find_by_bills(truth, seen, option, zone, random, trials),
    )
