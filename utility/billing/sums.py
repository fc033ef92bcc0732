"""Energy by account, part of the month, period and kind: sums of settled quarter-hours, as whole numbers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.units import AccountNumber, MicrogridId, Quarter
from commonwatt.settlement.settled import Quantity, SettledQuarters
from commonwatt.town.town import Function
from utility.billing.columns import Chunk, Flags, Table
from utility.billing.inputs import RunInputs, Segment
from utility.billing.places import PUBLIC, UNITS, Place, places_of
from utility.billing.policies import POLICIES
from utility.billing.policies.policy import CreditGoesTo
from utility.billing.pools import by_weight, evenly
from utility.registry.accounts import Installed
from utility.tariffs.policy_settings import RangersSettings


class Flow(IntEnum):
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
    energies: dict[tuple[Segment, Flow], list[int]] = field(default_factory=dict)
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
        for meter in members:
            for account, start, end in meter.held(self._inputs.first, self._inputs.until):
                it = self._account(account)
                it.spans.append((start, end))
                row = chunk.rows[meter.id]
                it.flags = chunk.flagged(it.flags, [row], start, end)
                it.shared_in += chunk.table(Quantity.SHARED_IN).between(row, start, end)
                it.shared_out += chunk.table(Quantity.SHARED_OUT).between(row, start, end)
                if not split_import:
                    self._take(it, account, Flow.IMPORT, chunk.table(Quantity.IMPORTED), row, start, end)
                if not to_units and meter.function not in _POOLED:
                    self._take(it, account, Flow.CREDIT, chunk.table(Quantity.EXPORTED), row, start, end)
        self._count(members, chunk, pooled=to_units)
        for pool in self._pools(places, chunk, split_import=split_import, to_units=to_units):
            self._divide(pool, chunk)

    def _account(self, number: AccountNumber) -> AccountSums:
        return self.sums.accounts.setdefault(number, AccountSums())

    def _take(
        self,
        it: AccountSums,
        number: AccountNumber,
        flow: Flow,
        table: Table,
        row: int,
        start: Quarter,
        end: Quarter,
    ) -> None:
        """Add a row's energy, from a quarter to before another one, to an account."""
        for segment in self._inputs.within(number, start, end):
            found = table.of(row, segment, start, end)
            known = it.energies.get((segment, flow))
            it.energies[segment, flow] = found if known is None else [*map(sum, zip(known, found, strict=True))]

    def _count(self, members: Sequence[Installed], chunk: Chunk, *, pooled: bool) -> None:
        """Count what is given to the town, and what nobody pays or is credited for."""
        first, until = self._inputs.first, self._inputs.until
        for meter in members:
            row = chunk.rows[meter.id]
            taken, given = (chunk.table(q).total(row) for q in (Quantity.IMPORTED, Quantity.EXPORTED))
            self.sums.given += given
            for _, start, end in meter.held(first, until):
                taken -= chunk.table(Quantity.IMPORTED).between(row, start, end)
                if not pooled and meter.function not in _POOLED:
                    given -= chunk.table(Quantity.EXPORTED).between(row, start, end)
            self.sums.unheld += taken
            # What a pool divides is taken off again as it is divided.
            self.sums.kept += given

    def _pools(self, places: Sequence[Place], chunk: Chunk, *, split_import: bool, to_units: bool) -> Iterator["_Pool"]:
        units = [place for place in places if place.function in UNITS]
        if to_units:
            yield _Pool(flow=Flow.MICROGRID_CREDIT, sources=places, takers=units)
            if split_import:
                yield _Pool(flow=Flow.IMPORT, sources=units, takers=units)
            return
        for place in places:
            if place.function is Function.BUILDING:
                inside = [unit for unit in units if unit.building == place.name and unit.function is Function.APARTMENT]
                yield _Pool(flow=Flow.BUILDING_CREDIT, sources=[place], takers=inside)
        if farms := [place for place in places if place.function is Function.SOLAR_FARM]:
            public = [place for place in places if place.function in PUBLIC]
            weights = None
            if getattr(self._settings, "farm", "equal") == "import":
                table = chunk.table(Quantity.IMPORTED)
                weights = [sum(table.total(chunk.rows[m.id]) for m in place.meters) for place in public]
            yield _Pool(flow=Flow.FARM_CREDIT, sources=farms, takers=public, weights=weights)

    def _divide(self, pool: "_Pool", chunk: Chunk) -> None:
        """Divide a pool's energy among the accounts that have its places."""
        first, until = self._inputs.first, self._inputs.until
        quantity = Quantity.IMPORTED if pool.flow is Flow.IMPORT else Quantity.EXPORTED
        rows = [chunk.rows[meter.id] for place in pool.sources for meter in place.meters]
        energy = chunk.energy(quantity, rows)
        if not pool.takers or not energy.any():
            return
        owners = np.array([place.owners(first, until) for place in pool.takers])
        active = np.array([place.exists(first, until) for place in pool.takers])
        if self._settings.vacant == "occupied":
            active &= owners > 0
        parts = evenly(energy, active, first) if pool.weights is None else by_weight(energy, active, pool.weights)
        table = Table(chunk.columns, chunk.columns.sums(parts))
        for row, of in enumerate(owners):
            for account, start, end in _stretches(of, first):
                if pool.flow is not Flow.IMPORT:
                    self.sums.kept -= table.between(row, start, end)
                it = self._account(account)
                it.flags = chunk.flagged(it.flags, rows, start, end)
                if pool.flow is Flow.BUILDING_CREDIT and it.building is None:
                    it.building = pool.sources[0].meters[0].microgrid, pool.sources[0].name
                self._take(it, account, pool.flow, table, row, start, end)


@dataclass(frozen=True, kw_only=True)
class _Pool:
    """Energy that is divided among places."""

    flow: Flow  # what it is for
    sources: Sequence[Place]  # the places that gave or took it
    takers: Sequence[Place]  # the places among which it is divided
    weights: Sequence[int] | None = None  # their weights; ``None``: equally


def _stretches(owners: NDArray[np.int64], first: Quarter) -> list[tuple[AccountNumber, Quarter, Quarter]]:
    """Return which accounts had a place: account, first quarter, quarter after."""
    bounds = [0, *(np.flatnonzero(owners[1:] != owners[:-1]) + 1).tolist(), owners.size]
    return [(int(owners[a]), first + a, first + b) for a, b in pairwise(bounds) if owners[a]]
