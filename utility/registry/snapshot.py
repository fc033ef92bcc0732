"""The registry as arrays, so that a batch's blocks are judged all at once."""

from collections.abc import Iterable, Mapping
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from commonwatt.model.keys import Keys
from commonwatt.model.units import MAX_ABS_READING
from utility.store.registry import KnownMeter

_TYPES = 64
"""Bits of a mask of record types: many more than there are types."""

_NO_ROWS = np.zeros(0, np.intp)

Rows: TypeAlias = npt.NDArray[np.intp]
"""Of each block of a batch, the row of its meter."""


class Registered:
    """The meters of one state of the registry, by ascending id."""

    def __init__(self, meters: Mapping[int, KnownMeter]) -> None:
        ids = sorted(meters)
        known = [meters[meter_id] for meter_id in ids]
        self._ids = np.array(ids, np.uint64)
        self._codes = {name: code for code, name in enumerate(sorted({meter.microgrid for meter in known}))}
        self._microgrid = np.array([self._codes[meter.microgrid] for meter in known], np.int64)
        held: dict[str, list[int]] = {}
        for row, meter in enumerate(known):
            for controller in meter.controllers:
                held.setdefault(controller, []).append(row)
        self._held = {controller: np.array(rows, np.intp) for controller, rows in held.items()}
        self._types = np.array([_mask(meter.record_types) for meter in known], np.uint64)
        self._limits = np.full((len(ids), 1 + max((t for m in known for t in m.limits), default=0)), MAX_ABS_READING)
        for row, meter in enumerate(known):
            for record_type, limit in meter.limits.items():
                self._limits[row, record_type] = limit

    def rows(self, keys: Keys) -> Rows | None:
        """Return which meter each block is of, ``None`` if one is of a meter that is not registered."""
        rows = np.searchsorted(self._ids, keys.meter)
        if len(keys) and (not len(self._ids) or (self._ids.take(rows, mode="clip") != keys.meter).any()):
            return None
        return rows

    def assigned(self, rows: Rows, sender: str, microgrid: str) -> npt.NDArray[np.bool_]:
        """Return which blocks are of meters of ``microgrid`` that the controller ``sender`` may hold."""
        may_hold = np.zeros(len(self._ids), np.bool_)
        may_hold[self._held.get(sender, _NO_ROWS)] = True
        in_place: npt.NDArray[np.bool_] = self._microgrid[rows] == self._codes.get(microgrid, -1)
        return in_place & may_hold[rows]

    def recorded(self, rows: Rows, keys: Keys) -> npt.NDArray[np.bool_]:
        """Return which blocks are of a type that their meter records."""
        types = np.minimum(keys.record_type, _TYPES - 1)
        found: npt.NDArray[np.bool_] = (self._types[rows] >> types) & np.uint64(1) > 0
        return found

    def limits(self, rows: Rows, keys: Keys) -> npt.NDArray[np.int64]:
        """Return the largest plausible reading of each block, milliwatt-hours."""
        judged = keys.record_type < self._limits.shape[1]
        return np.where(judged, self._limits[rows, np.where(judged, keys.record_type, 0)], MAX_ABS_READING)


def _mask(record_types: Iterable[int]) -> int:
    # The last bit is of no type: all that are higher are judged by it.
    return sum(1 << record_type for record_type in set(record_types) if record_type < _TYPES - 1)
