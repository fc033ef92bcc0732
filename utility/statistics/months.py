"""Local months by number, their quarter-hours, and spans of months: quarters, years, five years."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.calendar import load_cells, month_of, month_quarters, parse_month
from commonwatt.model.units import Quarter
from utility.energy.quarters import QUARTERS_A_DAY

Month = int  # a local month as a number: 12 x year + month - 1, so that months follow each other without a gap
CELLS = 48  # cells of a load shape: the local hours 0 to 23 of weekdays, then those of Saturdays and Sundays


class Span(StrEnum):
    """How many months a row adds up."""

    MONTH = "month"
    QUARTER = "quarter"
    YEAR = "year"
    FIVE_YEARS = "five_years"

    @property
    def months(self) -> int:
        """The number of months."""
        return _LENGTHS[self]


_LENGTHS = {Span.MONTH: 1, Span.QUARTER: 3, Span.YEAR: 12, Span.FIVE_YEARS: 60}


@dataclass(frozen=True, kw_only=True)
class MonthColumns:
    """The quarter-hours of a local month, or of a part of it, as columns."""

    month: Month  # the month
    first: Quarter  # its first quarter
    until: Quarter  # the quarter after its last
    cells: NDArray[np.int64]  # the cell of the load shape of each quarter, 0 to 47

    @property
    def days(self) -> range:
        """The days of UTC that the month overlaps: 29 to 32."""
        return range(self.first // QUARTERS_A_DAY, (self.until - 1) // QUARTERS_A_DAY + 1)

    @property
    def plain_day(self) -> Quarter:
        """The first quarter of a local day on which no clock changes."""
        hours = np.arange(QUARTERS_A_DAY) // 4
        starts = range(len(self.cells) - QUARTERS_A_DAY + 1)
        day = next(n for n in starts if np.array_equal(self.cells[n : n + QUARTERS_A_DAY] % 24, hours))
        return self.first + day

    def parts(self, days: int) -> "Iterator[MonthColumns]":
        """Yield the columns in parts of some days, in order."""
        for first in range(self.first, self.until, days * QUARTERS_A_DAY):
            until = min(first + days * QUARTERS_A_DAY, self.until)
            cells = self.cells[first - self.first : until - self.first]
            yield MonthColumns(month=self.month, first=first, until=until, cells=cells)


def month_number(text: str) -> Month:
    """Return the number of a month such as 2026-10.

    Raises:
        ConfigError: The text is no month.
    """
    year, month = parse_month(text)
    return year * 12 + month - 1


def month_text(month: Month) -> str:
    """Return a month as in 2026-10."""
    return f"{month // 12:04d}-{month % 12 + 1:02d}"


def month_at(quarter: Quarter, zone: ZoneInfo) -> Month:
    """Return the local month of a quarter."""
    return month_number(month_of(quarter, zone))


def months_of_day(day: int, zone: ZoneInfo) -> range:
    """Return the local months that a day of UTC overlaps: one or two."""
    first = day * QUARTERS_A_DAY
    return range(month_at(first, zone), month_at(first + QUARTERS_A_DAY - 1, zone) + 1)


@lru_cache(maxsize=256)
def columns_of(month: Month, zone: ZoneInfo) -> MonthColumns:
    """Return the columns of a month."""
    first, until = month_quarters(month_text(month), zone)
    return MonthColumns(month=month, first=first, until=until, cells=load_cells(np.arange(first, until), zone))


def span_around(month: Month, span: Span) -> range:
    """Return the months of the calendar's quarter or year that a month is in, or the five years that end with it."""
    if span is Span.FIVE_YEARS:
        return range(month - span.months + 1, month + 1)
    start = month - month % span.months
    return range(start, start + span.months)


def span_text(months: range, span: Span) -> str:
    """Return the name of a span: 2026-10, 2026-Q4, 2026, 2021-11 to 2026-10."""
    if span is Span.MONTH:
        return month_text(months.start)
    if span is Span.QUARTER:
        return f"{months.start // 12:04d}-Q{months.start % 12 // 3 + 1}"
    if span is Span.YEAR:
        return f"{months.start // 12:04d}"
    return f"{month_text(months.start)} to {month_text(months[-1])}"
