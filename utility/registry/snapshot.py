"""The registry in memory, by meter, and as arrays for all blocks of a batch at once."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from commonwatt.model.blocks import Keys
from commonwatt.model.units import (
    MAX_ABS_READING,
    AccountNumber,
    ControllerId,
    EpochSeconds,
    MicrogridId,
    MilliwattHours,
    Quarter,
    quarter_of,
)
from utility.registry.accounts import Holding, holder_at

_TYPES = 64  # bits of a mask of record types; far fewer types exist

_NO_ROWS = np.zeros(0, np.intp)

Rows: TypeAlias = npt.NDArray[np.intp]  # the meter's row for each block of a batch


@dataclass(frozen=True, kw_only=True)
class MeterEntry:
    """A registered meter."""

    no: int  # its number in the database
    microgrid: MicrogridId  # its microgrid
    record_types: frozenset[int]  # the record types that it sends
    holdings: tuple[Holding, ...] = ()  # which accounts had it when, in order of time
    # The largest valid reading of a slot, milliwatt-hours by record type.
    limits: Mapping[int, MilliwattHours] = field(default_factory=dict)
    # The controllers besides its own microgrid's that may manage its microgrid, or once might.
    backups: frozenset[ControllerId] = frozenset()

    @property
    def controllers(self) -> frozenset[ControllerId]:
        """The controllers assigned to this meter; its readings from any other controller are quarantined.

        All of the program takes the assignment from here.
        """
        return self.backups | {self.microgrid}

    def account_at(self, time: EpochSeconds) -> AccountNumber:
        """Return the account that had the meter at a time; 0: nobody."""
        return holder_at(self.holdings, quarter_of(time)) or 0


@dataclass(frozen=True, kw_only=True)
class RegistrySnapshot:
    """One state of the registry; replaced whole when the registry changed."""

    revision: int = 0  # number of the state
    # The numbers of the controllers in the database, by id.
    controllers: Mapping[ControllerId, int] = field(default_factory=dict)
    # The controllers that manage a public microgrid: hospital, police, fire station.
    public: frozenset[ControllerId] = frozenset()
    meters: Mapping[int, MeterEntry] = field(default_factory=dict)  # the meters, by id
    # The first quarter without any meter, by each controller whose meters all have a date of removal.
    closed: Mapping[ControllerId, Quarter] = field(default_factory=dict)

    def may_relay(self, sender: ControllerId, microgrid: MicrogridId) -> bool:
        """Return whether the controller ``sender`` is assigned to a meter of ``microgrid``."""
        return sender in self._relays.get(microgrid, ())

    def is_closed(self, controller: ControllerId, quarter: Quarter) -> bool:
        """Return whether all meters of a controller were removed before a quarter: its gateway may be off for good."""
        return controller in self.closed and self.closed[controller] <= quarter

    def rows(self, meters: npt.NDArray[np.uint64]) -> Rows | None:
        """Return the row of each of ``meters``; ``None`` if one of them is not registered."""
        # A binary search, since np.isin would sort the whole town's meters for each batch.
        rows = np.searchsorted(self._ids, meters)
        if len(meters) and (not len(self._ids) or (self._ids.take(rows, mode="clip") != meters).any()):
            return None
        return rows

    def numbers(self, meters: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """Return the database numbers of registered meters."""
        return self._numbers[np.searchsorted(self._ids, meters)]

    def assigned(self, rows: Rows, sender: ControllerId, microgrid: MicrogridId) -> npt.NDArray[np.bool_]:
        """Return which blocks are of meters of ``microgrid`` that the controller ``sender`` is assigned to."""
        may_hold = np.zeros(len(self._ids), np.bool_)
        may_hold[self._held_rows.get(sender, _NO_ROWS)] = True
        in_place: npt.NDArray[np.bool_] = self._microgrids[rows] == self._codes.get(microgrid, -1)
        return in_place & may_hold[rows]

    def recorded(self, rows: Rows, keys: Keys) -> npt.NDArray[np.bool_]:
        """Return which blocks are of a record type that is registered for their meter."""
        types = np.minimum(keys.record_type, _TYPES - 1)
        found: npt.NDArray[np.bool_] = (self._types[rows] >> types) & np.uint64(1) > 0
        return found

    def limits(self, rows: Rows, keys: Keys) -> npt.NDArray[np.int64]:
        """Return the largest valid reading of each block, milliwatt-hours."""
        judged = keys.record_type < self._limits.shape[1]
        return np.where(judged, self._limits[rows, np.where(judged, keys.record_type, 0)], MAX_ABS_READING)

    # Each array has one row for each meter, by ascending id.

    @cached_property
    def _entries(self) -> list[MeterEntry]:
        return [self.meters[meter] for meter in sorted(self.meters)]

    @cached_property
    def _ids(self) -> npt.NDArray[np.uint64]:
        return np.array(sorted(self.meters), np.uint64)

    @cached_property
    def _numbers(self) -> npt.NDArray[np.int64]:
        return np.array([entry.no for entry in self._entries], np.int64)

    @cached_property
    def _codes(self) -> dict[MicrogridId, int]:
        return {name: code for code, name in enumerate(sorted({entry.microgrid for entry in self._entries}))}

    @cached_property
    def _microgrids(self) -> npt.NDArray[np.int64]:
        return np.array([self._codes[entry.microgrid] for entry in self._entries], np.int64)

    @cached_property
    def _held_rows(self) -> dict[ControllerId, npt.NDArray[np.intp]]:
        held: dict[str, list[int]] = {}
        for row, entry in enumerate(self._entries):
            for controller in entry.controllers:
                held.setdefault(controller, []).append(row)
        return {controller: np.array(rows, np.intp) for controller, rows in held.items()}

    @cached_property
    def _relays(self) -> dict[MicrogridId, set[ControllerId]]:
        relays: dict[MicrogridId, set[ControllerId]] = {}
        for entry in self.meters.values():
            relays.setdefault(entry.microgrid, set()).update(entry.controllers)
        return relays

    @cached_property
    def _types(self) -> npt.NDArray[np.uint64]:
        # The last bit stands for no type and stays 0: `recorded` looks it up for all higher types.
        masks = [sum(1 << each for each in entry.record_types if each < _TYPES - 1) for entry in self._entries]
        return np.array(masks, np.uint64)

    @cached_property
    def _limits(self) -> npt.NDArray[np.int64]:
        types = 1 + max((record_type for entry in self._entries for record_type in entry.limits), default=0)
        limits = np.full((len(self._entries), types), MAX_ABS_READING)
        for row, entry in enumerate(self._entries):
            for record_type, limit in entry.limits.items():
                limits[row, record_type] = limit
        return limits
