"""The forecast of the town's net load at the plant: yesterday's, and how far that was off on the last 28 days.

The path that is planned for is not the expected one. Its sum from now to any later time is a quantile of the need up to
then: a shortfall in dear hours costs much, energy to spare almost nothing.
"""

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.time.local_time import DAY_QUARTERS, to_local, to_utc
from commonwatt.model.units import QUARTER_S, EpochSeconds

ERROR_DAYS = 28  # days whose errors of the forecast make the quantile
FADE = 0.95  # the part of the last quarter-hour's error that is left a quarter-hour later
LIKE_DAYS = 14  # days back in which a like day is looked for

Energies = NDArray[np.int64]


def days_before(
    now: EpochSeconds, horizon: int, days: int, history: Energies, zone: ZoneInfo, *, over: int = 0
) -> Energies:
    """Return the net load at the same local times on earlier days.

    Args:
        now: The start of the first quarter.
        horizon: Quarters of each row, at most two days.
        days: Rows: row d is d days before, from 0 on. Times that are not over repeat the last day's.
        history: The net load of each quarter before ``now``, and of those that are over, oldest first; not empty. What
            it lacks repeats its first day.
        zone: The zone of local times.
        over: Quarters from ``now`` on that are over.
    """
    first = now // QUARTER_S
    local = to_local(first + np.arange(horizon, dtype=np.int64), zone)
    back = local[None, :] - DAY_QUARTERS * np.arange(days, dtype=np.int64)[:, None]
    index = to_utc(back, zone) - first - over
    # An hour that the clock skipped, or a time still to come, is that of the day before; so is what lacks in the past.
    for _ in range(3):
        index = np.where(index >= 0, index - DAY_QUARTERS, index)
    short = -len(history) - index
    index = np.where(short > 0, index + DAY_QUARTERS * -(-short // DAY_QUARTERS), index)
    return history[np.clip(index, -len(history), -1)]


def like_day(day: date, before: int) -> date:
    """Return the like day number ``before`` (from 1) before a day: a weekday for a weekday, else a weekend's day."""
    like, found = day, 0
    while found < before:
        like -= timedelta(days=1)
        found += (like.weekday() >= 5) == (day.weekday() >= 5)
    return like


def like_hours(now: EpochSeconds, zone: ZoneInfo) -> list[EpochSeconds]:
    """Return the starts of the same local hour on earlier like days, the last day first (A8).

    A day on which the clock skipped the hour is left out.
    """
    local = datetime.fromtimestamp(now, zone)
    starts = []
    for before in range(1, LIKE_DAYS):
        day = like_day(local.date(), before)
        if (local.date() - day).days > LIKE_DAYS:
            break
        start = datetime(day.year, day.month, day.day, local.hour, tzinfo=zone)
        time = int(start.timestamp())
        if datetime.fromtimestamp(time, zone).hour == local.hour:
            starts.append(time)
    return starts


def planned_need(
    now: EpochSeconds, edges: NDArray[np.int64], history: Energies, zone: ZoneInfo, permille: int
) -> Energies:
    """Return the net load to plan for in each step of a horizon.

    The sum from ``now`` to the end of any step is yesterday's at these local times, plus a quantile of the error that
    the same forecast had for this sum on each of the last 28 days.

    Args:
        now: The start of the first step.
        edges: The begins of the steps and the end of the last, in quarters from ``now``, from 0 to at most 192.
        history: The net load of each quarter before ``now``, oldest first; not empty.
        zone: The zone of local times.
        permille: The quantile, thousandths.
    """
    horizon = int(edges[-1])
    # The first column is the last quarter that is over.
    rows = days_before(now - QUARTER_S, horizon + 1, ERROR_DAYS + 4, history, zone, over=1)
    first = min(horizon, DAY_QUARTERS) + 1
    # The second day was forecast from the same day as the first: its row is one further back.
    guess = np.concatenate([rows[3:-1, :first], rows[4:, first:]], axis=1)
    errors = _sums(_left(rows[2 : 2 + ERROR_DAYS] - guess), edges)
    place = min(ERROR_DAYS - 1, ERROR_DAYS * permille // 1000)
    today = rows[1:2, 1:] + _fading(rows[:1] - rows[1:2], horizon)
    sums = _sums(today, edges)[0] + np.partition(errors, place, axis=0)[place]
    # For one quarter, the last one and its change on other days are closer than yesterday. What is bought too much is
    # stored, or not delivered if there is no room; what is bought too little goes through the battery, with its loss.
    change = (rows[2 : 2 + ERROR_DAYS, 1] - rows[2 : 2 + ERROR_DAYS, 0]).max()
    sums[0] = max(sums[0], float(rows[0, 0] + change))
    return np.asarray(np.diff(np.rint(sums).astype(np.int64), prepend=0), np.int64)


def _fading(errors: Energies, horizon: int) -> NDArray[np.float64]:
    """Return what the error of the first quarter of each row adds to the forecast of those that follow."""
    fades = FADE ** np.arange(1, horizon + 1)
    return np.asarray(errors[:, :1] * fades)


def _left(errors: Energies) -> NDArray[np.float64]:
    """Return the errors that are left if the error of the first quarter is added, fading."""
    return np.asarray(errors[:, 1:] - _fading(errors, errors.shape[1] - 1))


def _sums(rows: NDArray[np.float64], edges: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the sums from the begin of each row to the end of each step."""
    sums = np.concatenate([np.zeros((len(rows), 1)), np.cumsum(rows, axis=1)], axis=1)
    return sums[:, edges[1:]]
