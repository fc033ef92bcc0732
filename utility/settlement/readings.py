"""The readings of one quarter-hour of many meters as arrays, in the order of the meters' ids."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.ids import MeterId
from commonwatt.model.records import RecordType
from commonwatt.model.units import SLOTS
from commonwatt.settlement.microgrids import Flow
from commonwatt.settlement.overlay import Corrected


class Table:
    """The readings of one quarter of some meters: a row for each meter, ascending by id; missing without a reading."""

    def __init__(self, meters: Sequence[MeterId] | NDArray[np.uint64], readings: Corrected, *types: RecordType) -> None:
        self._meters = np.asarray(meters, np.uint64)
        self._flows = {kind: self._flow(readings, kind) for kind in types}

    def flow(self, kind: RecordType, rows: NDArray[np.intp]) -> Flow:
        """Return the readings at ``rows``, (microgrids, meters), as (microgrids, slots, meters)."""
        found = self._flows[kind]
        return Flow(
            values=np.ascontiguousarray(found.values[rows].transpose(0, 2, 1)),
            quality=np.ascontiguousarray(found.quality[rows].transpose(0, 2, 1)),
        )

    def _flow(self, readings: Corrected, kind: RecordType) -> Flow:
        which = np.flatnonzero(readings.keys.record_type == kind)
        rows = np.searchsorted(self._meters, readings.keys.meter[which])
        ours = rows < len(self._meters)
        ours[ours] = self._meters[rows[ours]] == readings.keys.meter[which[ours]]
        which, rows = which[ours], rows[ours]
        values = np.zeros((len(self._meters), SLOTS), np.int64)
        quality = np.zeros((len(self._meters), SLOTS), np.uint8)
        values[rows], quality[rows] = readings.values[which], readings.quality[which]
        return Flow.of(values, quality)
