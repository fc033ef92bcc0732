"""The usage of accounts and microgrids in a month, from settled quarter-hours: sums, peaks, shapes, completeness."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.units import AccountNumber, Quarter
from commonwatt.settlement.settled import Energies, Quantity, SettledQuality, SettledQuarters
from commonwatt.town.town import Function
from utility.registry.accounts import Installed
from utility.statistics.months import CELLS, MonthColumns

QUANTITIES = tuple(Quantity)  # the order of the quantities in arrays: imported, shared in, exported, shared out
MICROGRID = 0  # in place of an account's number: the microgrid itself


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Some columns of a meter's row that count for a subject."""

    row: int  # the row of the settled quarter-hours
    subject: int  # the number of the subject
    start: int  # the first column
    end: int  # the column after the last


@dataclass(frozen=True, kw_only=True, eq=False)
class Usage:
    """The usage of some subjects in a month, a row each; energies are milliwatt-hours."""

    energies: Energies  # sums by quantity, (n, 4)
    peak: Energies  # the highest quarter-hour taken from the town, (n); its mean power in milliwatts is four times that
    peak_at: NDArray[np.int64]  # when it begins, (n)
    quarters: NDArray[np.int64]  # quarter-hours of meters that were installed, (n)
    settled: NDArray[np.int64]  # of them, those that are settled
    missing: NDArray[np.int64]  # of the settled ones, those in which a reading is missing
    estimated: NDArray[np.int64]  # of the settled ones, those that were estimated or entered by a person
    shape: Energies  # sums by quantity and cell of the load shape, (n, 4, 48)

    def then(self, later: "Usage") -> "Usage":
        """Return the usage of the time of this one and of a later one, of the same subjects."""
        is_higher = later.peak > self.peak
        summed = ("energies", "quarters", "settled", "missing", "estimated", "shape")
        return Usage(
            peak=np.where(is_higher, later.peak, self.peak),
            peak_at=np.where(is_higher, later.peak_at, self.peak_at),
            **{name: getattr(self, name) + getattr(later, name) for name in summed},
        )


def stretches_of(
    members: Sequence[Installed],
    rows: Mapping[int, int],
    subjects: dict[tuple[int, AccountNumber], int],
    owner_no: int,
    first: Quarter,
    until: Quarter,
) -> list[Stretch]:
    """Return what counts for the accounts and for the microgrid of some meters.

    Args:
        members: The meters of one microgrid.
        rows: The row of each meter.
        subjects: The numbers of (microgrid's number, account or ``MICROGRID``); those of these meters are added.
        owner_no: The microgrid's number.
        first: The month's first quarter.
        until: The quarter after its last.
    """
    found = []
    for meter in members:
        if meter.function is Function.BOUNDARY or meter.id not in rows:
            continue
        spans = [(MICROGRID, *meter.within(first, until)), *meter.held(first, until)]
        for account, start, end in spans:
            if start < end:
                subject = subjects.setdefault((owner_no, account), len(subjects))
                found.append(Stretch(row=rows[meter.id], subject=subject, start=start - first, end=end - first))
    return found


def usage_of(settled: SettledQuarters, stretches: Sequence[Stretch], subjects: int, columns: MonthColumns) -> Usage:
    """Return the usage of subjects 0 to ``subjects`` - 1.

    Args:
        settled: The settled quarter-hours of the columns.
        stretches: What counts for which subject.
        subjects: How many there are.
        columns: The month, or a part of it.
    """
    counts = np.zeros((4, subjects), np.int64)
    for each in stretches:
        span = each.row, slice(each.start, each.end)
        quality = settled.quality[span][settled.version[span] > 0]
        by_edit = (quality == SettledQuality.ESTIMATED) | (quality == SettledQuality.EDITED)
        lacking = int((quality == SettledQuality.MISSING).sum())
        counts[:, each.subject] += (each.end - each.start, len(quality), lacking, int(by_edit.sum()))
    energies = np.empty((subjects, len(QUANTITIES)), np.int64)
    shape = np.empty((subjects, len(QUANTITIES), CELLS), np.int64)
    peak = peak_at = np.zeros(subjects, np.int64)
    for number, quantity in enumerate(QUANTITIES):
        series = _summed(settled.of(quantity), stretches, subjects)
        energies[:, number] = series.sum(axis=1)
        shape[:, number] = by_cell(series, columns)
        if quantity is Quantity.IMPORTED:
            peak, peak_at = series.max(axis=1), columns.first + series.argmax(axis=1)
    quarters, there, missing, estimated = counts
    return Usage(
        energies=energies,
        peak=peak,
        peak_at=peak_at,
        quarters=quarters,
        settled=there,
        missing=missing,
        estimated=estimated,
        shape=shape,
    )


def _summed(energies: Energies, stretches: Sequence[Stretch], subjects: int) -> Energies:
    """Return the sums of the stretches of each subject; a copy of all stretches would take more memory."""
    found = np.zeros((subjects, energies.shape[1]), np.int64)
    for each in stretches:
        found[each.subject, each.start : each.end] += energies[each.row, each.start : each.end]
    return found


def by_cell(series: Energies, columns: MonthColumns) -> Energies:
    """Return the sums of rows of quarter-hours by cell of the load shape, (n, 48)."""
    found = np.zeros((len(series), CELLS), np.int64)
    order = np.argsort(columns.cells, kind="stable")
    present, begins = np.unique(columns.cells[order], return_index=True)
    for row, values in enumerate(series):
        found[row, present] = np.add.reduceat(values[order], begins)
    return found
