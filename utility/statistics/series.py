"""Quarter-hours of a class of microgrids: what it took, gave, shared, generated and used, for peaks and load shapes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.units import Quarter
from commonwatt.settlement.settled import QUARTERS_A_DAY, Energies
from utility.statistics.batteries import UNKNOWN
from utility.statistics.months import CELLS, MonthColumns
from utility.statistics.usage import QUANTITIES, by_cell

SERIES = (*(quantity.name.lower() for quantity in QUANTITIES), "generated", "level")
"""The rows of a class's day: energies by quantity, energy generated, and the sum of the batteries' levels at the end of
each quarter-hour; of the last two ``UNKNOWN`` where more than some batteries in a hundred have no reading."""

SHAPES = (*SERIES[:-1], "used")  # the rows of a class's load shape
ClassDay = NDArray[np.int64]  # a class's day of UTC, (6, 96), in the order of ``SERIES``


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassMonth:
    """What only the quarter-hours of a whole class tell."""

    peak: int  # the highest quarter-hour taken from the town, milliwatt-hours
    peak_at: Quarter  # when it begins
    # Sums by row of ``SHAPES`` and cell of the load shape, (6, 48); of use, those of quarter-hours with readings of
    # the batteries (``store.usage_sources.LEAST_PERCENT``).
    shape: Energies


def no_day() -> ClassDay:
    """Return a day without anything."""
    found = np.zeros((len(SERIES), QUARTERS_A_DAY), np.int64)
    found[len(QUANTITIES) :] = UNKNOWN
    return found


def class_month(days: Mapping[int, ClassDay], columns: MonthColumns) -> ClassMonth:
    """Return a class's month.

    Args:
        days: Its days by number, also the one before the month if there is one.
    """
    first_day = columns.days.start - 1
    whole = np.concatenate([days.get(day, no_day()) for day in range(first_day, columns.days.stop)], axis=1)
    begin = columns.first - first_day * QUARTERS_A_DAY
    series = whole[:, begin : begin + len(columns.cells)]
    before = whole[-1, begin - 1 : begin - 1 + len(columns.cells)]
    imported, shared_in, exported, shared_out, generated, level = series
    is_known = (generated != UNKNOWN) & (level != UNKNOWN) & (before != UNKNOWN)
    passed = imported + shared_in - exported - shared_out
    used = np.where(is_known, passed + generated - (level - before), 0)
    rows = np.vstack([series[: len(QUANTITIES)], np.maximum(generated, 0), used])
    at = int(imported.argmax())
    return ClassMonth(peak=int(imported[at]), peak_at=columns.first + at, shape=by_cell(rows, columns))


def added(days: Sequence[ClassDay]) -> ClassDay:
    """Return the sum of several classes' days; what one of them does not know is not known."""
    whole = np.sum(days, axis=0, dtype=np.int64)
    unknown = np.any([day == UNKNOWN for day in days], axis=0)
    unknown[: len(QUANTITIES)] = False
    return np.where(unknown, UNKNOWN, whole)


def mean_power(shape: NDArray[np.int64], cells: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean power of each cell of load shapes, watts, (rows, 48), from the cells of all quarter-hours."""
    quarters = np.bincount(cells, minlength=CELLS)
    return np.asarray(shape * 4 / 1000 / np.maximum(quarters, 1), np.float64)
