"""From meters' readings to homes' energies by step."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.records import RecordType
from commonwatt.model.units import QUARTER_S, Quarter
from commonwatt.town.town import Direction
from utility.research.homes import Home, HomeMeter, Homes, Measure

_Integers = NDArray[np.int64]
_Flags = NDArray[np.bool_]


class Assembly:
    """Adds readings of any meters, at least one, in any order, each once; those of other meters are ignored.

    A step of a home is known if all readings of its meters are there, also the battery's level before the step.
    """

    def __init__(
        self, homes: Sequence[Home], meters: Sequence[HomeMeter], first: Quarter, until: Quarter, step_s: int
    ) -> None:
        """Take the homes, their meters, the quarters, and the length of a step: a quarter-hour is a multiple of it."""
        self._homes, self._step_s, self._first = tuple(homes), step_s, first
        self._meters = sorted(meters, key=lambda meter: meter.id)
        self._ids = np.array([meter.id for meter in self._meters], dtype=np.uint64)
        self._rows = np.array([meter.row for meter in self._meters], dtype=np.int64)
        self._outgoing = np.array([meter.direction is Direction.OUTGOING for meter in self._meters], dtype=np.bool_)
        self._battery = np.array([meter.battery for meter in self._meters], dtype=np.bool_)
        self._first_quarters = np.array([meter.first for meter in self._meters], dtype=np.int64)
        self._until = np.array([meter.until for meter in self._meters], dtype=np.int64)
        self._per_quarter = QUARTER_S // step_s
        shape = (len(self._homes), (until - first) * self._per_quarter)
        self._flows = {m: np.zeros(shape, np.int64) for m in (Measure.GENERATED, Measure.TAKEN, Measure.GIVEN)}
        self._lacking = np.zeros(shape, np.int16)
        # One step more, at the front: the level before the first step.
        self._level = np.zeros((shape[0], shape[1] + 1), np.int64)
        self._levels_lacking = np.zeros((shape[0], shape[1] + 1), np.int16)
        for meter in self._meters:
            begin, end = (max(0, q - first) * self._per_quarter for q in (meter.first, min(until, meter.until)))
            if begin >= end:
                continue
            self._lacking[meter.row, begin:end] += 2 if meter.battery else 1
            if meter.battery:
                self._levels_lacking[meter.row, begin + (begin > 0) : end + 1] += 1
        # Where a battery comes or goes, the rise of the level is not known.
        self._same = self._levels_lacking[:, 1:] == self._levels_lacking[:, :-1]

    def add(
        self, meters: NDArray[np.uint64], types: _Integers, quarters: _Integers, values: _Integers, known: _Flags
    ) -> None:
        """Add readings.

        Args:
            meters: The meter of each, (n,).
            types: Its record type, (n,).
            quarters: Its quarter, (n,); levels of the quarter before the first are taken too.
            values: Its values by step, (n, steps of a quarter): sums of flows, levels at the end.
            known: Whether the step's reading is whole, of the same shape.
        """
        place = np.searchsorted(self._ids, meters)
        place = np.minimum(place, len(self._ids) - 1)
        # A meter counts while it was there; of the quarter before the period its level does.
        since = self._first_quarters[place]
        since = np.where(since <= self._first, self._first - 1, since)
        ours = np.flatnonzero((self._ids[place] == meters) & (quarters >= since) & (quarters < self._until[place]))
        place, types, values, known = place[ours], types[ours], values[ours], known[ours]
        row = np.broadcast_to(self._rows[place][:, None], values.shape)
        step = (quarters[ours] - self._first)[:, None] * self._per_quarter + np.arange(self._per_quarter)
        there = known & (step >= -1) & (step < self._lacking.shape[1])
        for kind, direction, measure in (
            (RecordType.GENERATION, True, Measure.GENERATED),
            (RecordType.THROUGH, True, Measure.GIVEN),
            (RecordType.THROUGH, False, Measure.TAKEN),
        ):
            some = there & ((types == kind) & (self._outgoing[place] == direction))[:, None] & (step >= 0)
            np.add.at(self._flows[measure], (row[some], step[some]), values[some])
            if kind is RecordType.GENERATION:
                some &= self._battery[place][:, None]
            np.subtract.at(self._lacking, (row[some], step[some]), 1)
        some = there & ((types == RecordType.STORED) & self._battery[place])[:, None]
        np.add.at(self._level, (row[some], step[some] + 1), values[some])
        np.subtract.at(self._levels_lacking, (row[some], step[some] + 1), 1)

    def homes(self) -> Homes:
        """Return the homes with what was added."""
        known = self._same & (self._lacking == 0)
        known &= (self._levels_lacking[:, 1:] == 0) & (self._levels_lacking[:, :-1] == 0)
        rise = np.diff(self._level, axis=1)
        flows = self._flows
        used = flows[Measure.GENERATED] + flows[Measure.TAKEN] - flows[Measure.GIVEN] - rise
        values = {Measure.USED: used, **flows}
        return Homes(
            homes=self._homes,
            start=self._first * QUARTER_S,
            step_s=self._step_s,
            values={measure: array * known for measure, array in values.items()},
            known=known,
        )
