"""Settled quarter-hours as rows, and their sums by hour or local day."""

from collections.abc import Callable, Collection, Iterator, Sequence
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from commonwatt.model.ids import MeterId
from commonwatt.model.units import QUARTER_S, Quarter
from commonwatt.settlement.settled import Quantity, SettledQuality, SettledQuarters
from utility.exports.columns import Coded, Rows, count_of
from utility.exports.holdings import Held, is_held
from utility.exports.readings import Grids
from utility.exports.resolutions import Resolution, intervals

QUARTERS_AT_A_TIME = 500_000  # most pairs of a meter and a quarter that are read at once

_QUALITIES = tuple(quality.name.lower() for quality in SettledQuality)
_NOT_SETTLED = 255
_NAMES = {
    Quantity.IMPORTED: "imported_milliwatt_hours",
    Quantity.SHARED_IN: "shared_in_milliwatt_hours",
    Quantity.EXPORTED: "exported_milliwatt_hours",
    Quantity.SHARED_OUT: "shared_out_milliwatt_hours",
}

Load = Callable[[Collection[MeterId], Quarter, Quarter], SettledQuarters]
"""Returns the newest settled quarters of some meters, from the first quarter to before the last."""


def settled_rows(
    load: Load,
    meters: Sequence[MeterId],
    grids: Grids,
    first: Quarter,
    end: Quarter,
    resolution: Resolution,
    zone: ZoneInfo,
    held: Sequence[Held] | None = None,
) -> Iterator[Rows]:
    """Yield the rows of ``SETTLED_TABLE`` of some meters and quarters, which begin and end with whole intervals.

    Args:
        load: Loads settled quarters.
        grids: Their microgrids.
        end: The quarter after the last.
        resolution: The interval of a row.
        zone: The time zone of local days.
        held: The periods that count; ``None``: all.
    """
    # Whole local days, so that no interval is in two reads.
    days = intervals(Resolution.DAY, first, end, zone).starts // QUARTER_S
    step = max(1, QUARTERS_AT_A_TIME // (100 * max(1, len(meters))))
    for begin in range(0, len(days) - 1, step):
        low, high = max(first, int(days[begin])), min(end, int(days[min(begin + step, len(days) - 1)]))
        settled = load(meters, low, high)
        rows = rows_of_settled(settled, grids, resolution, zone, held)
        if count_of(rows):
            yield rows


def rows_of_settled(
    settled: SettledQuarters,
    grids: Grids,
    resolution: Resolution,
    zone: ZoneInfo,
    held: Sequence[Held] | None = None,
) -> Rows:
    """Return a row for each meter and interval of some settled quarters; intervals without any have none."""
    quarters = settled.first + np.arange(settled.quality.shape[1])
    counts = settled.version > 0
    if held is not None:
        counts &= is_held(settled.meters[:, np.newaxis], quarters[np.newaxis, :], held)
    by = intervals(resolution, settled.first, settled.first + len(quarters), zone)
    index = by.index_of(quarters)
    begins = np.flatnonzero(np.diff(index, prepend=-1))
    present = np.add.reduceat(counts, begins, axis=1, dtype=np.int32)
    rows = present > 0
    meters = np.broadcast_to(settled.meters[:, np.newaxis], rows.shape)[rows]

    def added(quantity: Quantity) -> npt.NDArray[np.int64]:
        values = np.where(counts, settled.of(quantity), 0)
        return np.add.reduceat(values, begins, axis=1)[rows]

    worst = np.minimum.reduceat(np.where(counts, settled.quality, _NOT_SETTLED), begins, axis=1)
    return {
        "meter_id": meters,
        "microgrid": Coded(grids.codes_of(meters), grids.labels),
        "start_utc": np.broadcast_to(by.starts[index[begins]], rows.shape)[rows],
        **{name: added(quantity) for quantity, name in _NAMES.items()},
        "quality": Coded(worst[rows].astype(np.int32), _QUALITIES),
        "provisional": np.logical_or.reduceat(settled.provisional & counts, begins, axis=1)[rows],
        "version": np.maximum.reduceat(np.where(counts, settled.version, 0), begins, axis=1)[rows],
        "settled_quarters": present[rows],
    }
