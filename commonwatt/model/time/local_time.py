"""Quarter-hours in local time, as arrays: days of 23, 24 and 25 hours are right without a loop over quarters."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.units import QUARTER_S

DAY_QUARTERS = 96  # quarter-hours in a day of 24 hours
_EPOCH_WEEKDAY, _SATURDAY = 3, 5
Quarters = NDArray[np.int64]  # quarter-hours, counted from 1970, UTC or local


def to_local(quarters: Quarters, zone: ZoneInfo) -> Quarters:
    """Return the local wall time of UTC quarters, as quarters of the local calendar counted from 1970."""
    return quarters + _offsets(quarters, zone)


def to_utc(local: Quarters, zone: ZoneInfo) -> Quarters:
    """Return UTC quarters for local wall times; for a skipped one the same time an hour on, of two one of them."""
    near = local - _offsets(local, zone)
    return np.asarray(local - _offsets(near, zone), np.int64)


def local_hour(quarters: Quarters, zone: ZoneInfo) -> Quarters:
    """Return the local hour, 0 to 23, of UTC quarters."""
    return np.asarray(to_local(quarters, zone) % DAY_QUARTERS // 4, np.int64)


def load_cells(quarters: Quarters, zone: ZoneInfo) -> Quarters:
    """Return the cell of the load shape of UTC quarters: the local hours of weekdays, 0 to 23, of weekends 24 to 47."""
    local = to_local(quarters, zone)
    is_weekend = (local // DAY_QUARTERS + _EPOCH_WEEKDAY) % 7 >= _SATURDAY
    return np.asarray(local % DAY_QUARTERS // 4 + 24 * is_weekend, np.int64)


def _offsets(quarters: Quarters, zone: ZoneInfo) -> Quarters:
    """Return local time minus UTC, in quarters."""
    ends = (int(quarters.min() - 200) * QUARTER_S, int(quarters.max() + 200) * QUARTER_S)
    changes, offsets = _changes(zone, *(datetime.fromtimestamp(end, UTC).year for end in ends))
    return offsets[np.searchsorted(changes, quarters, side="right")]


@lru_cache(maxsize=64)
def _changes(zone: ZoneInfo, begin: int, end: int) -> tuple[Quarters, Quarters]:
    """Return the quarters in which the offset changes in some years, and the offsets before, between and after."""
    time = datetime(begin, 1, 1, tzinfo=UTC)
    offsets, changes = [_offset(time, zone)], []
    while time.year <= end:
        after = time + timedelta(days=1)
        if _offset(after, zone) != offsets[-1]:
            while _offset(time, zone) == offsets[-1]:
                time += timedelta(seconds=QUARTER_S)
            changes.append(int(time.timestamp()) // QUARTER_S)
            offsets.append(_offset(time, zone))
        time = after
    return np.array(changes, np.int64), np.array(offsets, np.int64)


def _offset(time: datetime, zone: ZoneInfo) -> int:
    return int((time.astimezone(zone).utcoffset() or timedelta()).total_seconds()) // QUARTER_S
