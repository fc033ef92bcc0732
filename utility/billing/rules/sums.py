"""Energy by account, part of the month, period and kind: sums of settled quarter-hours, as whole numbers.

Settled quarter-hours of a month are cut where anything that a bill distinguishes changes. The sums between the cuts are
made for all meters at once; what is left is a small table for each quantity. Energy that earns credit for several
places is divided in each quarter-hour in whole milliwatt-hours, so that the parts add up to it exactly.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.units import AccountNumber, MicrogridId, Quarter
from commonwatt.town.town import Function
from utility.billing.bill import cent_amount, divided, in_cents, rounded
from utility.billing.inputs import PUBLIC, UNITS, BilledPlace, RunInputs, Segment, places_of
from utility.billing.rules.policies import POLICIES, CreditGoesTo
from utility.energy.quarters import Energies, Quantity, SettledQuality, SettledQuarters
from utility.registry.accounts import Installed
from utility.tariffs.file import RangersSettings


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


class SumTable:
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
        self._tables: dict[Quantity, SumTable] = {}
        self._first = inputs.first
        month = inputs.first, inputs.until
        spans = {self.rows[meter.id]: meter.within(*month) for meter in meters}
        self._parts = {row: span for row, span in spans.items() if span != month}
        bad = (settled.quality <= SettledQuality.ESTIMATED) | settled.provisional
        self._flagged = np.asarray(bad.any(axis=1)).tolist()

    def table(self, quantity: Quantity) -> SumTable:
        """Return the sums of a quantity."""
        if quantity not in self._tables:
            sums = self.columns.sums(self._settled.of(quantity))
            for row, span in self._parts.items():
                runs = self.columns.runs(*span)
                sums[row, : runs.start] = sums[row, runs.stop :] = 0
            self._tables[quantity] = SumTable(self.columns, sums)
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
            if not self._flagged[row]:
                continue
            low, high = self._parts.get(row, (start, end))
            a, b = max(start, low) - self._first, min(end, high) - self._first
            if a >= b:
                continue
            flags = flags or Flags(self._settled.quality.shape[1])
            quality = self._settled.quality[row, a:b]
            flags.quarters[0, a:b] |= self._settled.provisional[row, a:b]
            flags.quarters[1, a:b] |= quality == SettledQuality.ESTIMATED
            flags.quarters[2, a:b] |= quality == SettledQuality.MISSING
        return flags


Active = NDArray[np.bool_]  # which places take part in each quarter, (places, quarters)


def evenly(energy: Energies, active: Active, first: Quarter) -> Energies:
    """Divide energy equally among the places that take part; without any, nobody gets it.

    The odd milliwatt-hours of a quarter go to places in turn: to those from number (quarter mod places) on.

    Args:
        energy: Milliwatt-hours, (quarters).
        active: The places that take part.
    """
    parts = np.zeros(active.shape, np.int64)
    for begin, end in _same(active):
        takers = np.flatnonzero(active[:, begin])
        if not takers.size:
            continue
        base, odd = np.divmod(energy[begin:end], takers.size)
        parts[takers, begin:end] = base + (_turns(takers.size, first + begin, end - begin) < odd)
    return parts


@lru_cache(maxsize=4)
def _turns(places: int, first: Quarter, length: int) -> Energies:
    """Return how many places come before each place in the turn of each quarter, (places, quarters)."""
    return np.asarray((np.arange(places)[:, None] - np.arange(first, first + length)) % places, np.int64)


def by_weight(energy: Energies, active: Active, weights: Sequence[int]) -> Energies:
    """Divide energy in proportion to weights; the odd milliwatt-hours go to the largest remainders.

    Args:
        energy: Milliwatt-hours, (quarters).
        active: The places that take part.
        weights: A weight for each place.
    """
    parts = np.zeros(active.shape, np.int64)
    for begin, end in _same(active):
        present = [weight if taking else 0 for weight, taking in zip(weights, active[:, begin], strict=True)]
        for quarter in np.flatnonzero(energy[begin:end]) + begin:
            parts[:, quarter] = divided(int(energy[quarter]), present)
    return parts


def whole_cents(apartments: Sequence[Sequence[int]], month_quarters: int) -> list[list[int]]:
    """Return the credits of a building's apartments in whole cents, which add up to the building's credit in cents.

    The building's credit is rounded once. It is divided among the apartments, and the credit of an apartment among
    its lines: each is rounded down, and the cents then lacking go to the largest remainders.

    Args:
        apartments: The exact amounts of each apartment's lines.
        month_quarters: The quarters of the month, for the unit of amounts.
    """
    _, wholes = rounded([sum(lines) for lines in apartments], month_quarters)
    cent = cent_amount(month_quarters)
    return [
        [cent * cents for cents in in_cents(lines, whole, month_quarters)]
        for lines, whole in zip(apartments, wholes, strict=True)
    ]


def _same(active: Active) -> list[tuple[int, int]]:
    """Return the stretches of quarters in which the same places take part."""
    if active.all():
        return [(0, active.shape[1])]
    changed = np.flatnonzero((active[:, 1:] != active[:, :-1]).any(axis=0)) + 1
    bounds = [0, *changed.tolist(), active.shape[1]]
    return list(pairwise(bounds))


class BilledFlow(IntEnum):
    """What energy is on a bill for."""

    IMPORT = 1
    CREDIT = 2  # given to the town by the account's own meters
    BUILDING_CREDIT = 3  # the part of a building's credit
    FARM_CREDIT = 4  # the part of the solar farm's credit
    MICROGRID_CREDIT = 5  # the part of the microgrid's credit


@dataclass(kw_only=True)
class AccountSums:
    """The energy of an account in a month."""

    # When it had a meter: first quarter, quarter after.
    spans: list[tuple[Quarter, Quarter]] = field(default_factory=list)
    # Milliwatt-hours by number of the segment and flow, one for each period of the segment's tariff.
    energies: dict[tuple[Segment, BilledFlow], list[int]] = field(default_factory=dict)
    shared_in: int = 0  # taken from other places of the microgrid, milliwatt-hours
    shared_out: int = 0  # given to other places of the microgrid, milliwatt-hours
    flags: Flags | None = None  # quarters that are provisional, estimated or missing; ``None``: there are none
    # Microgrid and name of the building of whose credit it has a part, of several the first; ``None``: of none.
    building: tuple[MicrogridId, str] | None = None


@dataclass(kw_only=True)
class TownSums:
    """All energy of a month."""

    accounts: dict[AccountNumber, AccountSums] = field(default_factory=dict)  # by number
    given: int = 0  # given to the town and credited to somebody or nobody, milliwatt-hours
    kept: int = 0  # of that, without an account to credit it to: it stays with the town
    unheld: int = 0  # taken from the town by meters that no account had, milliwatt-hours


_POOLED = frozenset({Function.BUILDING, Function.SOLAR_FARM})


class Summing:
    """Adds up the energy of one microgrid after another.

    Args:
        inputs: What the bills are computed from.
    """

    def __init__(self, inputs: RunInputs) -> None:
        self.sums = TownSums()
        self._inputs = inputs
        used = inputs.used
        self._settings = used[0].policy
        self._policy = POLICIES[self._settings.name]

    def add(self, microgrids: Sequence[Sequence[Installed]], settled: SettledQuarters) -> None:
        """Add the energy of some whole microgrids, of all of whose meters ``settled`` has the month."""
        meters = [meter for members in microgrids for meter in members if meter.function is not Function.BOUNDARY]
        chunk = Chunk(self._inputs, meters, settled)
        for members in microgrids:
            self._add_microgrid([m for m in members if m.function is not Function.BOUNDARY], chunk)

    def _add_microgrid(self, members: Sequence[Installed], chunk: Chunk) -> None:
        places = places_of(members)
        split_import = isinstance(self._settings, RangersSettings) and self._settings.import_by == "evenly"
        to_units = self._policy.credit_goes_to is CreditGoesTo.UNITS
        quantities = (Quantity.IMPORTED, Quantity.EXPORTED, Quantity.SHARED_IN, Quantity.SHARED_OUT)
        imported, exported, shared_in, shared_out = map(chunk.table, quantities)
        for meter in members:
            row, is_credited = chunk.rows[meter.id], not to_units and meter.function not in _POOLED
            # Energy of times without an account stays with the town.
            unheld, kept = imported.total(row), exported.total(row)
            self.sums.given += kept
            for account, start, end in meter.held(self._inputs.first, self._inputs.until):
                it = self._account(account)
                it.spans.append((start, end))
                it.flags = chunk.flagged(it.flags, [row], start, end)
                it.shared_in += shared_in.between(row, start, end)
                it.shared_out += shared_out.between(row, start, end)
                unheld -= imported.between(row, start, end)
                if not split_import:
                    self._take(it, account, BilledFlow.IMPORT, imported, row, start, end)
                if is_credited:
                    kept -= exported.between(row, start, end)
                    self._take(it, account, BilledFlow.CREDIT, exported, row, start, end)
            self.sums.unheld += unheld
            # What a pool divides is taken off again as it is divided.
            self.sums.kept += kept
        for pool in self._pools(places, chunk, split_import=split_import, to_units=to_units):
            self._divide(pool, chunk)

    def _account(self, number: AccountNumber) -> AccountSums:
        if number not in self.sums.accounts:
            self.sums.accounts[number] = AccountSums()
        return self.sums.accounts[number]

    def _take(
        self,
        it: AccountSums,
        number: AccountNumber,
        flow: BilledFlow,
        table: SumTable,
        row: int,
        start: Quarter,
        end: Quarter,
    ) -> None:
        """Add a row's energy, from a quarter to before another one, to an account."""
        for segment in self._inputs.within(number, start, end):
            found = table.of(row, segment, start, end)
            known = it.energies.get((segment, flow))
            it.energies[segment, flow] = found if known is None else [*map(sum, zip(known, found, strict=True))]

    def _pools(
        self, places: Sequence[BilledPlace], chunk: Chunk, *, split_import: bool, to_units: bool
    ) -> Iterator["_Pool"]:
        units = [place for place in places if place.function in UNITS]
        if to_units:
            yield _Pool(flow=BilledFlow.MICROGRID_CREDIT, sources=places, takers=units)
            if split_import:
                yield _Pool(flow=BilledFlow.IMPORT, sources=units, takers=units)
            return
        for place in places:
            if place.function is Function.BUILDING:
                inside = [unit for unit in units if unit.building == place.name and unit.function is Function.APARTMENT]
                yield _Pool(flow=BilledFlow.BUILDING_CREDIT, sources=[place], takers=inside)
        if farms := [place for place in places if place.function is Function.SOLAR_FARM]:
            public = [place for place in places if place.function in PUBLIC]
            weights = None
            if getattr(self._settings, "farm", "equal") == "import":
                table = chunk.table(Quantity.IMPORTED)
                weights = [sum(table.total(chunk.rows[m.id]) for m in place.meters) for place in public]
            yield _Pool(flow=BilledFlow.FARM_CREDIT, sources=farms, takers=public, weights=weights)

    def _divide(self, pool: "_Pool", chunk: Chunk) -> None:
        """Divide a pool's energy among the accounts that have its places."""
        first, until = self._inputs.first, self._inputs.until
        quantity = Quantity.IMPORTED if pool.flow is BilledFlow.IMPORT else Quantity.EXPORTED
        rows = [chunk.rows[meter.id] for place in pool.sources for meter in place.meters]
        energy = chunk.energy(quantity, rows)
        if not pool.takers or not energy.any():
            return
        held = [place.held(first, until) for place in pool.takers]
        active = np.array([place.exists(first, until) for place in pool.takers])
        for row, of in enumerate(held if self._settings.vacant == "occupied" else ()):
            vacant = np.full(until - first, fill_value=True)
            for _, start, end in of:
                vacant[start - first : end - first] = False
            active[row] &= ~vacant
        parts = evenly(energy, active, first) if pool.weights is None else by_weight(energy, active, pool.weights)
        table = SumTable(chunk.columns, chunk.columns.sums(parts))
        for row, (account, start, end) in ((row, each) for row, of in enumerate(held) for each in of):
            if pool.flow is not BilledFlow.IMPORT:
                self.sums.kept -= table.between(row, start, end)
            it = self._account(account)
            it.flags = chunk.flagged(it.flags, rows, start, end)
            if pool.flow is BilledFlow.BUILDING_CREDIT and it.building is None:
                it.building = pool.sources[0].meters[0].microgrid, pool.sources[0].name
            self._take(it, account, pool.flow, table, row, start, end)


@dataclass(frozen=True, kw_only=True)
class _Pool:
    """Energy that is divided among places."""

    flow: BilledFlow  # what it is for
    sources: Sequence[BilledPlace]  # the places that gave or took it
    takers: Sequence[BilledPlace]  # the places among which it is divided
    weights: Sequence[int] | None = None  # their weights; ``None``: equally
