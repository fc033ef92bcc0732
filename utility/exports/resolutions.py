"""Resolutions of exports, and the intervals of a town's clock: quarter-hours, hours, local days and months."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from commonwatt.model.units import QUARTER_S, SLOT_S, EpochSeconds, Quarter
from utility.jobs.calendar_periods import LocalDay, LocalMonth

HOUR_S = 3600  # seconds in an hour


class Resolution(StrEnum):
    """The length of a row's interval."""

    SLOT = "15s"
    QUARTER = "15min"
    HOUR = "1h"
    DAY = "1d"


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A part of an export that is written to one file."""

    name: str  # its month, or its day, such as 2026-11
    start: EpochSeconds  # its first second
    end: EpochSeconds  # the second after its last


@dataclass(frozen=True, eq=False)
class Intervals:
    """The intervals of a resolution in a range of quarters."""

    starts: npt.NDArray[np.int64]  # int64 (k,): the first second of each, and the second after the last one's end

    def index_of(self, quarters: npt.NDArray[np.integer]) -> npt.NDArray[np.intp]:
        """Return the interval that each quarter begins in."""
        return np.searchsorted(self.starts, quarters.astype(np.int64) * QUARTER_S, side="right") - 1

    def slots(self, index: npt.NDArray[np.intp]) -> npt.NDArray[np.int64]:
        """Return how many slots each of some intervals has."""
        return np.diff(self.starts)[index] // SLOT_S


def intervals(resolution: Resolution, first: Quarter, end: Quarter, zone: ZoneInfo) -> Intervals:
    """Return the whole intervals that contain the quarters ``first`` to before ``end``."""
    start, stop = first * QUARTER_S, end * QUARTER_S
    if resolution is Resolution.DAY:
        day = LocalDay(zone).period_at(start)
        starts = [day.start, day.end]
        while starts[-1] < stop:
            starts.append(LocalDay(zone).period_at(starts[-1]).end)
        return Intervals(np.array(starts, np.int64))
    length = HOUR_S if resolution is Resolution.HOUR else QUARTER_S
    return Intervals(np.arange(start - start % length, -(-stop // length) * length + 1, length, dtype=np.int64))


def is_boundary(resolution: Resolution, time: EpochSeconds, zone: ZoneInfo) -> bool:
    """Return whether an interval of the resolution begins at a time."""
    if resolution is Resolution.DAY:
        return LocalDay(zone).period_at(time).start == time
    return time % (HOUR_S if resolution is Resolution.HOUR else QUARTER_S) == 0


def pieces(start: EpochSeconds, end: EpochSeconds, *, by_day: bool, zone: ZoneInfo) -> Iterator[Piece]:
    """Yield the local months of ``[start, end)``, or its days, cut at its ends."""
    cadence = LocalDay(zone) if by_day else LocalMonth(zone)
    while start < end:
        period = cadence.period_at(start)
        yield Piece(name=period.name, start=start, end=min(period.end, end))
        start = period.end


def cut(first: Quarter, end: Quarter, length: int) -> Iterator[tuple[Quarter, Quarter]]:
    """Yield ``[first, end)`` in ranges of at most ``length`` quarters."""
    yield from pairwise([*range(first, end, length), end] if first < end else ())
