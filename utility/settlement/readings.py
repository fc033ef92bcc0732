"""The readings of one quarter-hour of many meters as arrays, in the order of the meters' ids."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.blocks import Blocks
from commonwatt.model.ids import MeterId
from commonwatt.model.records import RecordType
from commonwatt.model.units import SLOTS
from commonwatt.settlement.microgrids import Flow, Qualities
from commonwatt.settlement.overlay import Overlay, applied, no_overlay


@dataclass(frozen=True, kw_only=True, eq=False)
class Readings:
    """The readings that are settled, n blocks: the raw ones, and what replaces some of them."""

    meter: NDArray[np.uint64]  # (n), meter ids
    record_type: NDArray[np.uint8]  # (n)
    values: NDArray[np.int64]  # milliwatt-hours, (n, 60)
    quality: Qualities  # ``SettledQuality``, (n, 60)


def readings_for_settlement(blocks: Blocks, overlay: Overlay | None = None) -> Readings:
    """Return the readings of joined blocks that are settled, with the corrections in force."""
    corrected = applied(blocks, overlay or no_overlay())
    return Readings(
        meter=corrected.keys.meter,
        record_type=corrected.keys.record_type,
        values=corrected.values,
        quality=corrected.quality,
    )


class Table:
    """The readings of one quarter of some meters: a row for each meter, ascending by id; missing without a reading."""

    def __init__(self, meters: Sequence[MeterId] | NDArray[np.uint64], readings: Readings, *types: RecordType) -> None:
        self._meters = np.asarray(meters, np.uint64)
        self._flows = {kind: self._flow(readings, kind) for kind in types}

    def rows_of(self, meters: NDArray[np.uint64]) -> NDArray[np.intp]:
        """Return the rows of meters."""
        return np.searchsorted(self._meters, meters)

    def flow(self, kind: RecordType, rows: NDArray[np.intp]) -> Flow:
        """Return the readings at ``rows``, (microgrids, meters), as (microgrids, slots, meters)."""
        found = self._flows[kind]
        return Flow(
            values=np.ascontiguousarray(found.values[rows].transpose(0, 2, 1)),
            quality=np.ascontiguousarray(found.quality[rows].transpose(0, 2, 1)),
        )

    def _flow(self, readings: Readings, kind: RecordType) -> Flow:
        which = np.flatnonzero(readings.record_type == kind)
        rows = np.searchsorted(self._meters, readings.meter[which])
        ours = rows < len(self._meters)
        ours[ours] = self._meters[rows[ours]] == readings.meter[which[ours]]
        which, rows = which[ours], rows[ours]
        values = np.zeros((len(self._meters), SLOTS), np.int64)
        quality = np.zeros((len(self._meters), SLOTS), np.uint8)
        values[rows], quality[rows] = readings.values[which], readings.quality[which]
        return Flow.of(values, quality)
