"""Reads the stored levels and flows of each place with a battery, and has them judged (docs/control.md)."""

from collections.abc import Mapping, Set

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.blocks import Blocks, empty, join
from commonwatt.model.records import RecordType
from commonwatt.model.units import QUARTER_S, SLOT_S, SLOTS, EpochSeconds, MeterId, Quarter
from commonwatt.model.validation import limits_of
from commonwatt.town.registry import RegisteredMeter
from commonwatt.town.town import Direction, Function
from gateway.control.manager import Manager
from gateway.control.plausibility import WINDOW_SLOTS, History, recorded_of
from gateway.relay.outbox import load
from gateway.store.changes import Stored

LOOK_S = 60  # seconds between two looks: meters send their records once a minute

_SOURCES = (Function.BUILDING, Function.SOLAR_FARM)
_NEEDED = {RecordType.STORED, RecordType.GENERATION, RecordType.THROUGH}
_Series = Mapping[tuple[MeterId, int], NDArray[np.int64]]


class LevelWatch:
    """Judges the batteries' levels from the store, once a minute."""

    def __init__(self, store: Stored, manager: Manager, registry: Mapping[MeterId, RegisteredMeter]) -> None:
        self._store = store
        self._manager = manager
        self._looked: int | None = None
        self.register(registry)

    def register(self, registry: Mapping[MeterId, RegisteredMeter]) -> None:
        """Replace the registry by a changed one."""
        # The blocks from a quarter on, from the parts up to a number; 0: nothing was read.
        self._blocks, self._first, self._up_to = empty(), 0, 0
        self._batteries = [meter for meter in registry.values() if meter.battery_capacity_mwh is not None]
        self._intake = {
            meter.location: meter.id
            for meter in registry.values()
            if meter.direction is Direction.INCOMING and meter.function is not Function.BOUNDARY
        }

    def look(self, now: EpochSeconds) -> None:
        """Judge all levels, if the last look was in another minute."""
        if now // LOOK_S == self._looked or not self._batteries:
            return
        self._looked = now // LOOK_S
        end = now // SLOT_S * SLOT_S
        series = self._read(end)
        self._manager.recorded = {meter.id: recorded_of(self._history(meter, series, end)) for meter in self._batteries}

    def _read(self, end: EpochSeconds) -> _Series:
        """Return the values of the window's slots by meter and record type, -1 where they are not known."""
        first, last = (end - WINDOW_SLOTS * SLOT_S) // QUARTER_S, (end - SLOT_S) // QUARTER_S
        wanted = [(meter.id, int(kind)) for meter in self._batteries for kind in _NEEDED & set(meter.record_types)]
        wanted += [(intake, int(RecordType.THROUGH)) for intake in self._intake.values()]
        blocks = self._stored(set(wanted), first, last)
        whole = {key: np.full((last - first + 1) * SLOTS, -1, dtype=np.int64) for key in wanted}
        for row, (meter, kind, quarter) in enumerate(blocks.keys()):
            if quarter <= last:
                at = (quarter - first) * SLOTS
                whole[meter, kind][at : at + SLOTS] = np.where(blocks.quality[row] > 0, blocks.values[row], -1)
        until = (end - first * QUARTER_S) // SLOT_S
        return {key: values[until - WINDOW_SLOTS : until] for key, values in whole.items()}

    def _stored(self, wanted: Set[tuple[MeterId, int]], first: Quarter, last: Quarter) -> Blocks:
        """Return the blocks of some series from a quarter on; only the parts since the last look are read."""
        newest = self._store.newest_part()
        if 0 < self._up_to <= newest and self._first <= first <= self._first + WINDOW_SLOTS // SLOTS:
            kept = self._blocks.take(np.flatnonzero(self._blocks.quarter >= first))
            parts = [part for part in self._store.parts_after(self._up_to, first) if part.key[:2] in wanted]
        else:
            # A meter's clock may be a little ahead.
            kept, quarters = empty(), range(first, last + 2)
            parts = self._store.block_parts([(*key, quarter) for key in wanted for quarter in quarters])
        self._blocks, self._up_to, self._first = join([kept, load(parts)]), newest, first
        return self._blocks

    def _history(self, meter: RegisteredMeter, series: _Series, end: EpochSeconds) -> History:
        unknown = np.full(WINDOW_SLOTS, -1, dtype=np.int64)
        level, generation, outflow = (
            series.get((meter.id, int(kind)), unknown)
            for kind in (RecordType.STORED, RecordType.GENERATION, RecordType.THROUGH)
        )
        capacity, minimum = meter.battery_capacity_mwh or 0, self._minimum(meter)
        if (intake := self._intake.get(meter.location)) is not None:
            into = series[intake, int(RecordType.THROUGH)]
        elif meter.function in _SOURCES:
            # Below its minimum it may receive energy that no meter counts.
            into = np.where(level >= minimum, 0, -1)
        else:
            into = unknown
        most = 2 * limits_of(meter.service_amps, None)[RecordType.THROUGH]
        inflow = np.where((generation >= 0) & (into >= 0), generation + into, -1)
        return History(
            level=level, inflow=inflow, outflow=outflow, end=end, capacity=capacity, minimum=minimum, most=most
        )

    def _minimum(self, meter: RegisteredMeter) -> int:
        info = self._manager.meters[meter.id].info
        percent = 0 if info is None or info.minimum_percent is None else info.minimum_percent
        return (meter.battery_capacity_mwh or 0) * percent // 100
