"""The attacker has all bills, and looks for their homes among the pseudonyms.

In 2018 billing totals found all of some 6,500 pseudonymous meters. The bills are taken to cover the release: of a month
whose bill covers more than the release, an attacker has less than here.
"""

from typing import TypeVar
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.time.local_time import local_hour, to_local
from commonwatt.model.units import QUARTER_S
from utility.research.attacks.success import Success, of_hits
from utility.research.coarsening import Coarsening
from utility.research.homes import Energies, Homes, Measure

PEAK_HOURS = (15, 21)  # local hours with a price of their own, which a bill states apart (T5)
BILL_UNIT = 10_000  # a bill states energies to this, milliwatt-hours

_CHUNK = 50

Floats = NDArray[np.float64]
_Number = TypeVar("_Number", np.int64, np.float64)


def lines_of(homes: Homes, zone: ZoneInfo) -> tuple[Energies, Floats]:
    """Return the energies on bills: taken in peak hours and outside, given; and the known part of the steps.

    Args:
        homes: The homes, in steps of at most an hour.
        zone: The town's time zone: bills are of local months.

    Returns:
        Energies, (homes, lines), and the part of each line's steps that is known.
    """
    quarters = homes.times // QUARTER_S
    months = to_local(quarters, zone).astype("timedelta64[m]") * 15 + np.datetime64("1970-01-01")
    _, month = np.unique(months.astype("datetime64[M]"), return_inverse=True)
    hour = local_hour(quarters, zone)
    peak = (hour >= PEAK_HOURS[0]) & (hour < PEAK_HOURS[1])
    energies, known = [], []
    for which in range(month.max() + 1):
        for measure, steps in ((Measure.TAKEN, peak), (Measure.TAKEN, ~peak), (Measure.GIVEN, month >= 0)):
            some = steps & (month == which)
            energies.append((homes.values[measure][:, some] * homes.known[:, some]).sum(axis=1))
            known.append(homes.known[:, some].sum(axis=1) / max(1, int(some.sum())))
    return np.stack(energies, axis=1), np.stack(known, axis=1)


def find_by_bills(
    truth: Homes,
    published: Homes,
    coarsening: Coarsening,
    zone: ZoneInfo,
    random: np.random.Generator,
    trials: int = 400,
) -> Success:
    """Return how often a home's bill finds it among the pseudonyms; arguments as ``find_by_half_hours``."""
    bills, _ = lines_of(truth, zone)
    bills = (bills + BILL_UNIT // 2) // BILL_UNIT * BILL_UNIT
    sums, known = lines_of(published, zone)
    lines: Floats = sums / np.where(known > 0, known, 1)
    if coarsening.shuffled:
        # Days are of no month and of no weekday any more: whole sums are left.
        bills, lines = _of_all_months(bills), _of_all_months(lines)
    row_of = {home: row for row, home in enumerate(published.homes)}
    chosen = random.permutation(len(truth.homes))[:trials]
    hits = 0.0
    for first in range(0, len(chosen), _CHUNK):
        some = chosen[first : first + _CHUNK]
        distances = np.abs(bills[some][:, None] - lines[None]).sum(axis=2)
        nearest = distances <= distances.min(axis=1, keepdims=True)
        for found, home in zip(nearest, some.tolist(), strict=True):
            row = row_of.get(truth.homes[home])
            if row is not None and found[row]:
                hits += 1 / int(found.sum())
    return of_hits(
        "bills", "has all bills; finds the pseudonym of each", len(chosen), hits, 1 / max(1, len(truth.homes))
    )


def _of_all_months(lines: NDArray[_Number]) -> NDArray[_Number]:
    """Return the sums of peak hours, other hours and what was given over all months."""
    return np.asarray(lines.reshape(len(lines), -1, 3).sum(axis=1))
