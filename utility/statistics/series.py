"""Quarter-hours of a class of microgrids: what it took, gave, shared, generated and used, also of its batteries.

Settled quarter-hours say what passed the meters. What a place used is what it took and generated, less what it sent
out and what its battery gained; so the loss of charging counts as used. Readings of one day of UTC are one column.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.units import SLOTS, MilliwattHours, Quarter
from utility.energy.quarters import QUARTERS_A_DAY, Energies
from utility.readings.flows import used_of
from utility.statistics.months import CELLS, MonthColumns
from utility.statistics.usage import QUANTITIES, by_cell

UNKNOWN = -1  # a level without a reading

_PARTS = ("generated", "slots", "level")


@dataclass(frozen=True, kw_only=True, eq=False)
class BatteryDays:
    """The readings of some batteries in a month, by day of UTC that the month overlaps."""

    meters: NDArray[np.int64]  # numbers of their outgoing meters, ascending, (n)
    generated: NDArray[np.int64]  # energy generated, (n, days)
    slots: NDArray[np.int64]  # slots with a reading of generation, (n, days)
    # Level at the end of the day's last quarter-hour in the month; ``UNKNOWN``: no reading, (n, days).
    level: NDArray[np.int64]
    before: NDArray[np.int64]  # level at the end of the last quarter-hour before the month, (n)

    def table(self) -> NDArray[np.int64]:
        """Return all in one table, for ``packed``; ``days_from`` is the inverse."""
        parts = [self.meters[:, None], self.before[:, None], *(getattr(self, name) for name in _PARTS)]
        return np.concatenate(parts, axis=1)


@dataclass(frozen=True, kw_only=True)
class Generated:
    """What places with batteries generated, and what their batteries gained."""

    energy: MilliwattHours  # energy generated, milliwatt-hours
    gained: MilliwattHours | None  # the level at the end less that at the beginning; ``None``: one of them is not known
    slots: int  # slots with a reading of generation
    wanted: int  # slots of the days that are counted


def no_days(meters: NDArray[np.int64], days: int) -> BatteryDays:
    """Return the days of some batteries without any reading."""
    shape = len(meters), days
    unknown = np.full(shape, UNKNOWN, np.int64)
    return BatteryDays(
        meters=meters,
        generated=np.zeros(shape, np.int64),
        slots=np.zeros(shape, np.int64),
        level=unknown,
        before=np.full(len(meters), UNKNOWN, np.int64),
    )


def days_from(table: NDArray[np.int64]) -> BatteryDays:
    """Return the days of a table."""
    days = (table.shape[1] - 2) // len(_PARTS)
    parts = {name: table[:, 2 + n * days : 2 + (n + 1) * days] for n, name in enumerate(_PARTS)}
    return BatteryDays(meters=table[:, 0], before=table[:, 1], **parts)


def aligned(days: BatteryDays, meters: NDArray[np.int64]) -> BatteryDays:
    """Return the days of exactly some meters: others are left out, new ones have no reading."""
    if np.array_equal(days.meters, meters):
        return days
    found = no_days(meters, days.level.shape[1])
    here, there = np.isin(meters, days.meters), np.isin(days.meters, meters)
    for name in (*_PARTS, "before"):
        getattr(found, name)[here] = getattr(days, name)[there]
    return found


def generated_by(days: BatteryDays, meters: NDArray[np.int64], widths: NDArray[np.int64]) -> Generated:
    """Return what some of the meters generated in the settled days of a month.

    Args:
        days: The readings.
        meters: The meters' numbers.
        widths: The quarter-hours of each day that lie in the month; 0: the day is not settled.
    """
    if not len(meters):
        return Generated(energy=0, gained=0, slots=0, wanted=0)
    rows, counted = np.isin(days.meters, meters), np.flatnonzero(widths)
    wanted = len(meters) * int(widths.sum()) * SLOTS
    if not counted.size or not rows.any():
        return Generated(energy=0, gained=None, slots=0, wanted=wanted)
    first, last = int(counted[0]), int(counted[-1])
    before = days.level[rows, first - 1] if first else days.before[rows]
    after = days.level[rows, last]
    is_known = counted.size == last - first + 1 and bool((before != UNKNOWN).all() and (after != UNKNOWN).all())
    return Generated(
        energy=int(days.generated[rows][:, counted].sum()),
        gained=int((after - before).sum()) if is_known else None,
        slots=int(days.slots[rows][:, counted].sum()),
        wanted=wanted,
    )


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
    # the batteries (``utility.statistics.store.usage.LEAST_PERCENT``).
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
    used = np.where(is_known, used_of(passed, generated, level - before), 0)
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
