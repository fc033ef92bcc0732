"""An account's present day and its months, from readings."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np

from commonwatt.model.units import QUARTER_S, EpochSeconds, Quarter, quarter_of
from utility.database.database import Database
from utility.exports.resolutions import Resolution, intervals
from utility.households.course import Course, Figures, Level, figures_of
from utility.households.store.home import Battery, Home
from utility.households.store.reading import read_course
from utility.jobs.calendar_periods import LocalDay


@dataclass(frozen=True, kw_only=True, eq=False)
class Day:
    """A local day of an account, or of its building."""

    course: Course  # the day's energies by quarter-hour
    sums: Figures  # its sums so far, of the same quarters
    until: EpochSeconds | None  # the end of its newest quarter with a reading; ``None``: none has come
    level: Level | None  # the newest level of the batteries in it; ``None``: not known


def day_of(database: Database, home: Home, first: Quarter, end: Quarter, *, shared: bool = False) -> Day:
    """Return a local day of a home.

    Args:
        first: The day's first quarter.
        end: The quarter after its last.
        shared: Whether the day is that of the building that the account shares, in place of its own.
    """
    course = read_course(database, home, first, end, shared=shared)
    until = course.until
    return Day(
        course=course,
        sums=figures_of(course.whole, first, first if until is None else until),
        until=None if until is None else until * QUARTER_S,
        level=course.newest,
    )


def day_around(time: EpochSeconds, zone: ZoneInfo) -> tuple[Quarter, Quarter]:
    """Return the first quarter of the local day of a time, and the one after its last."""
    period = LocalDay(zone).period_at(time)
    return period.start // QUARTER_S, period.end // QUARTER_S


def figures_by_day(database: Database, home: Home, first: Quarter, end: Quarter, zone: ZoneInfo) -> list[Figures]:
    """Return the sums of each local day of ``[first, end)``, such as a month, from readings."""
    course = read_course(database, home, first, end)
    days = (intervals(Resolution.DAY, first, end, zone).starts // QUARTER_S).tolist()
    return [figures_of(course, begin, min(stop, end)) for begin, stop in pairwise(days)]


@dataclass(frozen=True, kw_only=True, eq=False)
class Stored:
    """The batteries of an account, or of its building."""

    batteries: Sequence[Battery]  # each with its minimum
    level: Level | None  # their newest level together, of today or yesterday; ``None``: not known
    permille: int | None  # the level in thousandths of their capacity
    today: Day  # the day that they are of, until now

    @property
    def low_since(self) -> tuple[EpochSeconds, bool] | None:
        """Since when the only battery is below its minimum, and whether before that is known; ``None``: it is not."""
        course, (battery, *more) = self.today.course, self.batteries
        known = np.flatnonzero(course.stored.slots)
        low = 100 * course.stored.energy[known] < (battery.minimum or 0) * battery.capacity
        if more or not low.any() or not low[-1]:
            return None
        before = len(low) - int(np.append(~low[::-1], True).argmax())
        return (course.first + int(known[before]) + 1) * QUARTER_S, before > 0


def stored_now(database: Database, home: Home, now: EpochSeconds, zone: ZoneInfo, *, shared: bool) -> Stored | None:
    """Return the account's batteries now, or those of its building; ``None``: there are none."""
    batteries = [one for one in home.batteries(quarter_of(now)) if one.is_shared is shared]
    if not batteries:
        return None
    first, end = day_around(now, zone)
    # Until now: a battery that the account has no more later today is still its own.
    today = day_of(database, home, first, min(end, quarter_of(now) + 1), shared=shared)
    level = today.level
    if level is None:
        level = day_of(database, home, *day_around(first * QUARTER_S - 1, zone), shared=shared).level
    capacity = sum(one.capacity for one in batteries)
    permille = None if level is None else max(0, min(1000, level.energy * 1000 // capacity))
    return Stored(batteries=batteries, level=level, permille=permille, today=today)
