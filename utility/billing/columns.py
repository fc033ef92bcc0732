"""Settled quarter-hours of a month in columns, cut where anything that a bill distinguishes changes, and summed.

The sums between the cuts are made for all meters at once. What is left is a small table for each quantity.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.units import Quarter
from commonwatt.settlement.settled import Energies, Quantity, SettledQuality, SettledQuarters
from utility.billing.inputs import RunInputs, Segment
from utility.registry.accounts import Installed


class Columns:
    """The columns of a month and their cuts."""

    def __init__(self, inputs: RunInputs, meters: Sequence[Installed]) -> None:
        first, until = inputs.first, inputs.until
        quarters = np.arange(first, until)
        self._periods = {tariff.label: tariff.periods_of(quarters) for tariff in inputs.used}
        cuts = {0, *(quarter - first for quarter in inputs.changes)}
        for of in self._periods.values():
            cuts.update((np.flatnonzero(np.diff(of)) + 1).tolist())
        for meter in meters:
            cuts.update(quarter - first for quarter in meter.within(first, until))
            for _, start, end in meter.held(first, until):
                cuts |= {start - first, end - first}
        self._cuts = sorted(cut for cut in cuts if cut < until - first)
        self.starts = np.array(self._cuts, np.int64)  # the columns at which runs of equal conditions begin
        self._first, self._until = first, until
        self.whole = slice(0, len(self._cuts))  # all runs
        self._by_period: dict[Segment, NDArray[np.int64]] = {}

    def runs(self, start: Quarter, end: Quarter) -> slice:
        """Return the runs from a quarter to before another one; both are cuts."""
        if start == self._first and end == self._until:
            return self.whole
        return slice(bisect_left(self._cuts, start - self._first), bisect_left(self._cuts, end - self._first))

    def sums(self, energies: Energies) -> Energies:
        """Return the sums of each row by run."""
        return np.asarray(np.add.reduceat(energies, self.starts, axis=1), np.int64)

    def by_period(self, segment: Segment) -> NDArray[np.int64]:
        """Return which run of a segment is of which period, (runs, periods), ones and zeros."""
        if segment not in self._by_period:
            runs = self.runs(segment.start, segment.end)
            found = np.zeros((self.starts.size, len(segment.tariff.prices)), np.int64)
            of = self._periods[segment.tariff.label][self.starts[runs]]
            found[np.arange(runs.start, runs.stop), of] = 1
            self._by_period[segment] = found
        return self._by_period[segment]


class Table:
    """Sums of rows by run, with those by period and of the month, which most rows need, for all rows at once."""

    def __init__(self, columns: Columns, by_run: Energies) -> None:
        self._columns = columns
        self._by_run = by_run
        self._whole: dict[Segment, list[list[int]]] = {}
        self._totals: list[int] = by_run.sum(axis=1).tolist()

    def of(self, row: int, segment: Segment, start: Quarter, end: Quarter) -> list[int]:
        """Return the sums of a row by period in the part of a segment that lies between two quarters."""
        by_period = self._columns.by_period(segment)
        if start <= segment.start and segment.end <= end:
            if segment not in self._whole:
                self._whole[segment] = (self._by_run @ by_period).tolist()
            return self._whole[segment][row]
        runs = self._columns.runs(max(start, segment.start), min(end, segment.end))
        return [int(value) for value in self._by_run[row, runs] @ by_period[runs]]

    def total(self, row: int) -> int:
        """Return the sum of a row over the month."""
        return self._totals[row]

    def between(self, row: int, start: Quarter, end: Quarter) -> int:
        """Return the sum of a row from a quarter to before another one."""
        runs = self._columns.runs(start, end)
        return self._totals[row] if runs is self._columns.whole else int(self._by_run[row, runs].sum())


class Flags:
    """The quarters of an account that are provisional, estimated, missing: a row each."""

    def __init__(self, quarters: int) -> None:
        self.quarters = np.zeros((3, quarters), np.bool_)

    def counts(self) -> tuple[int, int, int]:
        """Return how many quarters are provisional, estimated, missing."""
        provisional, estimated, missing = self.quarters.sum(axis=1).tolist()
        return provisional, estimated, missing


class Chunk:
    """The settled quarter-hours of some microgrids, with their sums by run; a meter counts while it is installed."""

    def __init__(self, inputs: RunInputs, meters: Sequence[Installed], settled: SettledQuarters) -> None:
        assert settled.first == inputs.first
        assert settled.quality.shape[1] == inputs.length
        self.columns = Columns(inputs, meters)  # their columns
        # The row of each meter.
        self.rows: Mapping[int, int] = {int(meter): row for row, meter in enumerate(settled.meters)}
        self._settled = settled
        self._tables: dict[Quantity, Table] = {}
        self._first = inputs.first
        month = inputs.first, inputs.until
        spans = {self.rows[meter.id]: meter.within(*month) for meter in meters}
        self._parts = {row: span for row, span in spans.items() if span != month}
        bad = (settled.quality <= SettledQuality.ESTIMATED) | settled.provisional
        self._flagged = np.asarray(bad.any(axis=1)).tolist()

    def table(self, quantity: Quantity) -> Table:
        """Return the sums of a quantity."""
        if quantity not in self._tables:
            sums = self.columns.sums(self._settled.of(quantity))
            for row, span in self._parts.items():
                runs = self.columns.runs(*span)
                sums[row, : runs.start] = sums[row, runs.stop :] = 0
            self._tables[quantity] = Table(self.columns, sums)
        return self._tables[quantity]

    def energy(self, quantity: Quantity, rows: Sequence[int]) -> Energies:
        """Return the sum of some rows by quarter."""
        energies = self._settled.of(quantity)[list(rows)]
        for n, row in enumerate(rows):
            if row in self._parts:
                start, end = self._parts[row]
                energies[n, : start - self._first] = energies[n, end - self._first :] = 0
        return np.asarray(energies.sum(axis=0), np.int64)

    def flagged(self, flags: Flags | None, rows: Sequence[int], start: Quarter, end: Quarter) -> Flags | None:
        """Return an account's flags with those that any of some rows has between two quarters."""
        for row in rows:
            low, high = self._parts.get(row, (start, end))
            a, b = max(start, low) - self._first, min(end, high) - self._first
            if a >= b or not self._flagged[row]:
                continue
            flags = flags or Flags(self._settled.quality.shape[1])
            quality = self._settled.quality[row, a:b]
            flags.quarters[0, a:b] |= self._settled.provisional[row, a:b]
            flags.quarters[1, a:b] |= quality == SettledQuality.ESTIMATED
            flags.quarters[2, a:b] |= quality == SettledQuality.MISSING
        return flags
