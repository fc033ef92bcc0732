"""Sums of blocks by interval: energies are added, levels keep the last, the lowest and the highest."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from commonwatt.model.blocks import Blocks
from commonwatt.model.units import QUARTER_S
from utility.exports.resolutions import Intervals
from utility.readings.summaries import summaries

_I64 = npt.NDArray[np.int64]
_I32 = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums of some meters, record types and intervals; the arrays have a row for each."""

    meter: npt.NDArray[np.uint64]  # meter ids, uint64
    record_type: npt.NDArray[np.uint8]  # uint8
    start: _I64  # first second of the interval
    last_time: _I64  # first second of the newest quarter that is in the sums
    total: _I64  # sum of the readings; meaningless for levels
    last: _I64  # the newest reading
    lowest: _I64  # the lowest reading
    highest: _I64  # the highest reading
    exact: _I32  # slots with exact readings
    averaged: _I32  # slots with averaged readings
    conflicts: _I32  # slots with conflicting readings
    slots: _I32  # slots of the interval

    def __len__(self) -> int:
        return len(self.meter)

    def take(self, rows: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> "Sums":
        """Return the sums at ``rows``, in that order."""
        return Sums(*(getattr(self, field.name)[rows] for field in fields(self)))


def sums_of(blocks: Blocks, by: Intervals) -> Sums:
    """Return the sums of each block, under the interval that it is in; blocks without a reading are left out."""
    found = {name: column.values for name, column in summaries(blocks).items()}
    index = by.index_of(blocks.quarter)
    made = Sums(
        meter=blocks.meter,
        record_type=blocks.record_type,
        start=by.starts[index],
        last_time=blocks.quarter.astype(np.int64) * QUARTER_S,
        total=found["total"],
        last=found["last_reading"],
        lowest=found["min_reading"],
        highest=found["max_reading"],
        exact=found["exact"].astype(np.int32),
        averaged=found["averaged"].astype(np.int32),
        conflicts=found["conflicts"].astype(np.int32),
        slots=by.slots(index).astype(np.int32),
    )
    there = made.exact + made.averaged > 0
    return made if there.all() else made.take(there)


def merge(parts: Sequence[Sums]) -> Sums:
    """Return the sums over all parts, one for each meter, record type and interval, in that order."""

    def whole_of(name: str) -> npt.NDArray[Any]:
        return np.concatenate([getattr(part, name) for part in parts])

    order = np.lexsort([whole_of(name) for name in ("last_time", "start", "record_type", "meter")])
    # One column after the other, so that memory is needed twice for one column only.
    whole = Sums(*(whole_of(field.name)[order] for field in fields(Sums)))
    keys = (whole.meter, whole.record_type, whole.start)
    changed = np.any([key[1:] != key[:-1] for key in keys], axis=0)
    if changed.all():
        return whole
    begins = np.concatenate(([0], np.flatnonzero(changed) + 1))
    ends = np.concatenate((begins[1:], [len(whole)])) - 1

    def added(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.add.reduceat(values, begins)

    return Sums(
        meter=whole.meter[begins],
        record_type=whole.record_type[begins],
        start=whole.start[begins],
        last_time=whole.last_time[ends],
        total=added(whole.total),
        last=whole.last[ends],
        lowest=np.minimum.reduceat(whole.lowest, begins),
        highest=np.maximum.reduceat(whole.highest, begins),
        exact=added(whole.exact),
        averaged=added(whole.averaged),
        conflicts=added(whole.conflicts),
        slots=whole.slots[begins],
    )
