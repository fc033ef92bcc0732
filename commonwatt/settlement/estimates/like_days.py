"""Like days: the same local hours of days of the same class, weekdays or weekends, nearest first."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import numpy as np

from commonwatt.model.units import QUARTER_S, Quarter
from commonwatt.settlement.estimates import Energies, Flags

FARTHEST_DAYS = 35  # a day further away is not like


def like_quarters(quarter: Quarter, zone: ZoneInfo) -> list[Quarter]:
    """Return the quarters with the same local time on like days, the nearest first, the earlier of two first.

    An hour that a change of clocks skips has none on that day; of an hour that comes twice, the first.
    """
    return list(_like(quarter, zone))


def _like(quarter: Quarter, zone: ZoneInfo) -> Iterator[Quarter]:
    local = datetime.fromtimestamp(quarter * QUARTER_S, zone).replace(tzinfo=None, fold=0)
    for distance in range(1, FARTHEST_DAYS + 1):
        for days in (-distance, distance):
            other = local + timedelta(days=days)
            if (other.weekday() < 5) != (local.weekday() < 5):
                continue
            time = int(other.replace(tzinfo=zone).timestamp())
            if datetime.fromtimestamp(time, zone).replace(tzinfo=None, fold=0) == other:
                yield time // QUARTER_S


def typical(energies: Energies, usable: Flags, days: int) -> tuple[Energies, Flags]:
    """Return the mean energy of each quarter over its like quarters, and where there is one, (..., quarters).

    Args:
        energies: Energy of each quarter's like quarters, nearest first, (..., like quarters, quarters).
        usable: Which are known, and of days without an outage.
        days: Most like quarters of a mean.
    """
    used = usable & (np.cumsum(usable, axis=-2) <= days)
    count = used.sum(axis=-2)
    total = np.where(used, energies, 0).sum(axis=-2)
    return (total + count // 2) // np.maximum(count, 1), np.asarray(count > 0)


def bent(shape: Energies, before: int, after: int | None) -> Energies:
    """Return a curve of levels with its ends moved to known levels: the middle is moved in proportion.

    Args:
        shape: The typical level at the end of each slot: of the slot before the gap, of the gap's, of the one after.
        before: The known level before the gap.
        after: The known level after it; ``None``: it is not known.
    """
    first = before - int(shape[0])
    last = first if after is None else after - int(shape[-1])
    steps, whole = np.arange(len(shape)), len(shape) - 1
    return np.maximum(0, shape + (first * (whole - steps) + last * steps) // whole)[1:-1]


def nearest(quarters: list[Quarter], days: int) -> list[Quarter]:
    """Return the first of like quarters, some more than ``days`` since not each is usable."""
    return list(islice(quarters, 2 * days))
