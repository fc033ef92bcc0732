"""The series of one meter: readings of 15 s as long as they are kept, settled quarter-hours for five years."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from sqlalchemy import Connection, bindparam, select

from commonwatt.model.blocks import Quality
from commonwatt.model.ids import MeterId
from commonwatt.model.units import QUARTER_S, SLOT_S, SLOTS, Quarter
from commonwatt.settlement.settled import QUARTERS_A_DAY, Quantity
from utility.overview.plots import Series
from utility.store.database import Database
from utility.store.parts import QUARTERS_AT_A_TIME, chunks
from utility.store.reads import readings
from utility.store.settled import load_settled
from utility.store.tables import compacted

WHOLE_QUARTERS = 3 * QUARTERS_A_DAY
"""Quarters up to which each slot is read; of a longer time, the least and greatest reading of each quarter."""

_UNCOMPACTED = 8
"""Last quarters of a long time of which each slot is read, since they may not be compacted yet."""

# Each quarter and day is named, since the keys begin with them. Statements are made once.
_c = compacted.c
_EXTREMES = select(_c.quarter, _c.min_reading, _c.max_reading, _c.exact, _c.averaged).where(
    _c.quarter.in_(bindparam("quarters", expanding=True)),
    _c.meter_no == bindparam("number"),
    _c.record_type == bindparam("type"),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class SettledSeries:
    """Settled quarter-hours of one meter.

    Attributes:
        quantities: By quantity that the meter has; the quality is ``SettledQuality``.
        provisional: In how many settled quarters a late reading may still change something.
        settled: How many quarters are settled.
    """

    quantities: Mapping[Quantity, Series]
    provisional: int
    settled: int


def slot_series(database: Database, number: int, record_type: int, first: Quarter, until: Quarter) -> Series:
    """Return the readings of quarters ``first`` to ``until`` - 1; of a long time, in quarters with their extremes.

    The quality is ``commonwatt.model.blocks.Quality``; of a quarter, that of its worst slot that is there.
    """
    if until - first <= WHOLE_QUARTERS:
        return _slots(database, number, record_type, first, until)
    extremes = _extremes(database, number, record_type, first, until)
    recent = _in_quarters(_slots(database, number, record_type, until - _UNCOMPACTED, until))
    tail = slice(len(extremes) - _UNCOMPACTED, None)
    for name in ("low", "high", "quality", "lacking"):
        getattr(extremes, name)[tail] = getattr(recent, name)
    return extremes


def settled_series(connection: Connection, meter_id: MeterId, first: Quarter, until: Quarter) -> SettledSeries:
    """Return a meter's settled quarter-hours ``first`` to ``until`` - 1, the newest version of each day.

    Raises:
        StoreError: A row is damaged.
    """
    found = load_settled(connection, [meter_id], first, until)
    is_settled = found.version[0] > 0
    return SettledSeries(
        quantities={
            quantity: _single(first * QUARTER_S, QUARTER_S, energies[0], found.quality[0])
            for quantity, energies in found.energies.items()
            if energies.any()
        },
        provisional=int((found.provisional[0] & is_settled).sum()),
        settled=int(is_settled.sum()),
    )


def _slots(database: Database, number: int, record_type: int, first: Quarter, until: Quarter) -> Series:
    blocks = readings(database, number, record_type, first, until - 1)
    values = np.zeros((until - first, SLOTS), np.int64)
    quality = np.zeros((until - first, SLOTS), np.uint8)
    at = blocks.quarter.astype(np.int64) - first
    values[at], quality[at] = blocks.values, blocks.quality
    return _single(first * QUARTER_S, SLOT_S, values.reshape(-1), quality.reshape(-1))


def _single(start: int, step_s: int, values: np.ndarray, quality: np.ndarray) -> Series:
    """Return a series with one value in each step."""
    lacking = np.zeros(len(values), np.bool_)
    return Series(start=start, step_s=step_s, low=values, high=values, quality=quality, lacking=lacking)


def _extremes(database: Database, number: int, record_type: int, first: Quarter, until: Quarter) -> Series:
    low, high = np.zeros(until - first, np.int64), np.zeros(until - first, np.int64)
    exact, there = np.zeros(until - first, np.int64), np.zeros(until - first, np.int64)
    with database.reads.begin() as connection:
        for some in chunks(range(first, until), QUARTERS_AT_A_TIME):
            values = {"quarters": list(some), "number": number, "type": record_type}
            rows = connection.execute(_EXTREMES, values).all()
            if not rows:
                continue
            quarter, least, most, as_measured, averaged = (np.array(column) for column in zip(*rows, strict=True))
            at = quarter - first
            low[at], high[at], exact[at], there[at] = least, most, as_measured, as_measured + averaged
    return _quarters(first * QUARTER_S, low, high, exact, there)


def _in_quarters(slots: Series) -> Series:
    """Return the extremes of each quarter of some slots."""
    quality, values = slots.quality.reshape(-1, SLOTS), slots.low.reshape(-1, SLOTS)
    there, limits = quality > Quality.MISSING, np.iinfo(np.int64)
    some = there.any(axis=1)
    low = np.where(some, np.where(there, values, limits.max).min(axis=1), 0)
    high = np.where(some, np.where(there, values, limits.min).max(axis=1), 0)
    return _quarters(slots.start, low, high, (quality == Quality.EXACT).sum(axis=1), there.sum(axis=1))


def _quarters(start: int, low: np.ndarray, high: np.ndarray, exact: np.ndarray, there: np.ndarray) -> Series:
    """Return quarters with their extremes, and how many of their slots are exact and there."""
    quality = np.where(exact == there, Quality.EXACT, Quality.AVERAGED)
    return Series(
        start=start,
        step_s=QUARTER_S,
        low=low,
        high=high,
        quality=np.where(there > 0, quality, Quality.MISSING).astype(np.uint8),
        lacking=(there > 0) & (there < SLOTS),
    )
