"""The registry as arrays, so that a batch's blocks are judged all at once."""

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from commonwatt.model.keys import Keys
from commonwatt.model.units import MAX_ABS_READING
from utility.store.registry import KnownMeter

_TYPES = 64
"""Bits of a mask of record types: many more than there are types."""


class Registered:
    """The meters of one state of the registry, by ascending id."""

    def __init__(self, meters: Mapping[int, KnownMeter]) -> None:
        ids = sorted(meters)
        known = [meters[meter_id] for meter_id in ids]
        self._ids = np.array(ids, np.uint64)
        self._codes = {name: code for code, name in enumerate(sorted({meter.microgrid for meter in known}))}
        self._microgrid = np.array([self._codes[meter.microgrid] for meter in known], np.int64)
        self._types = np.array([_mask(meter.record_types) for meter in known], np.uint64)
        self._limits = np.full((len(ids), 1 + max((t for m in known for t in m.limits), default=0)), MAX_ABS_READING)
        for row, meter in enumerate(known):
            for record_type, limit in meter.limits.items():
                self._limits[row, record_type] = limit

    def allow(self, keys: Keys, microgrid: str) -> bool:
        """Tell whether every block is of a meter registered in ``microgrid``, with records of that type."""
        rows = self._rows(keys)
        if rows is None:
            return False
        in_place = self._microgrid[rows] == self._codes.get(microgrid, -1)
        types = np.minimum(keys.record_type, _TYPES - 1)
        recorded = (self._types[rows] >> types) & np.uint64(1) > 0
        return bool((in_place & recorded).all())

    def limits(self, keys: Keys) -> npt.NDArray[np.int64]:
        """Return the largest plausible reading of each block, milliwatt-hours. Their meters are registered."""
        rows = self._rows(keys)
        assert rows is not None
        judged = keys.record_type < self._limits.shape[1]
        return np.where(judged, self._limits[rows, np.where(judged, keys.record_type, 0)], MAX_ABS_READING)

    def _rows(self, keys: Keys) -> npt.NDArray[np.intp] | None:
        """Return which meter each block is of, ``None`` if one is of none."""
        rows = np.searchsorted(self._ids, keys.meter)
        if len(keys) and (not len(self._ids) or (self._ids.take(rows, mode="clip") != keys.meter).any()):
            return None
        return rows


def _mask(record_types: Iterable[int]) -> int:
    # The last bit is of no type: all that are higher are judged by it.
    return sum(1 << record_type for record_type in set(record_types) if record_type < _TYPES - 1)
