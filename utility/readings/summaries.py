"""Sums and readings of whole blocks, as the database has them for people's queries."""

import numpy as np
import numpy.typing as npt

from commonwatt.codec.packing_arrays import masks_of
from commonwatt.model.blocks import Blocks, Quality
from commonwatt.model.records import RecordType
from utility.database.numbers import Column
from utility.readings.gaps import ALL_SLOTS

_FLOWS = [int(kind) for kind in RecordType if kind.is_flow]
_INT64 = np.iinfo(np.int64)


def summaries(blocks: Blocks) -> dict[str, Column]:
    """Return the columns for people's queries, by name."""
    there = masks(blocks)
    averaged = masks_of(blocks.quality == Quality.AVERAGED)
    some = there > 0
    # The lowest bit that is set, and the highest.
    lowest = there & -there
    highest = there.copy()
    for shift in (1, 2, 4, 8, 16, 32):
        highest |= highest >> np.uint64(shift)
    rows = np.arange(len(blocks))
    first = np.where(some, np.bitwise_count(lowest - np.uint64(1)), 0)
    last = np.where(some, np.bitwise_count(highest).astype(np.int64) - 1, 0)
    low = high = blocks.values
    if (there != ALL_SLOTS).any():
        present = blocks.quality > Quality.MISSING
        low, high = np.where(present, low, _INT64.max), np.where(present, high, _INT64.min)
    conflicts = np.zeros(len(blocks), np.int64)
    if len(blocks.extras):
        np.add.at(conflicts, np.unique(blocks.extras[["row", "slot"]])["row"], 1)
    return {
        "exact": Column(np.bitwise_count(there & ~averaged).astype(np.int64)),
        "averaged": Column(np.bitwise_count(averaged).astype(np.int64)),
        "conflicts": Column(conflicts),
        "total": Column(blocks.values.sum(axis=1), some & np.isin(blocks.record_type, _FLOWS)),
        "first_reading": Column(blocks.values[rows, first], some),
        "last_reading": Column(blocks.values[rows, last], some),
        "min_reading": Column(low.min(axis=1), some),
        "max_reading": Column(high.max(axis=1), some),
    }


def masks(blocks: Blocks) -> npt.NDArray[np.uint64]:
    """Return the mask of each block's present slots: bit s is slot s."""
    return masks_of(blocks.quality > Quality.MISSING)
