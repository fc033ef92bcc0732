"""How far estimates are from the emulator's truth, by the length of the gap and what is left to estimate from."""

from collections.abc import Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.units import SLOTS
from commonwatt.settlement.estimates.like_days import like_quarters, nearest, typical
from commonwatt.settlement.estimates.methods import Method
from commonwatt.settlement.estimates.microgrid import estimated
from commonwatt.settlement.estimates.scaling import spread
from commonwatt.settlement.estimates.window import Role, Window
from harness.validation.readings import Grid

DAYS = 10  # like days of a mean

ZONE = ZoneInfo("America/New_York")

_Array = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A planted gap."""

    grid: Grid  # the microgrid
    places: Sequence[int]  # the places without readings
    start: int  # first quarter of the gap, from the grid's first
    quarters: int  # its length
    has_boundary: bool  # whether the boundary is measured


@dataclass(frozen=True, kw_only=True)
class Error:
    """What the estimates of a case missed, milliwatt-hours."""

    total: int  # the energies' true sum, intake and output of the places without readings
    of_sum: int  # difference of each meter's energy over the gap, absolute, summed
    of_quarters: int  # difference of each meter's quarter-hours, absolute, summed
    methods: frozenset[Method]  # the methods used
    closes: bool  # whether places and boundary agree in each slot, with the estimates


def window_of(case: Case) -> tuple[Window, _Array, list[int]]:
    """Return what is known of a case, the true quarters of its series, and the series without readings."""
    grid, begin, end = case.grid, case.start - 1, case.start + case.quarters + 1
    series, role, place = [], [], []
    for number in range(len(grid.incoming)):
        for which, kind in ((grid.incoming, Role.INCOMING), (grid.outgoing, Role.OUTGOING)):
            if grid.uses[number] if kind is Role.INCOMING else grid.capacity[number] > 0:
                series.append(which[number])
                role.append(kind)
                place.append(number)
    every = np.stack(series)
    true = every[:, begin:end]
    gone = [row for row, number in enumerate(place) if number in case.places]
    wanted = np.zeros((len(series), (end - begin) * SLOTS), np.bool_)
    wanted[gone, SLOTS:-SLOTS] = True
    island = np.repeat(grid.island[begin:end], SLOTS)
    mean, is_typical = _typical(grid, every, gone, begin, end)
    window = Window(
        first=grid.first + begin,
        role=role,
        place=place,
        values=np.where(wanted, 0, spread(true)),
        known=~wanted,
        outage=np.repeat(island[None], len(series), axis=0),
        wanted=wanted,
        boundary=spread(true[_rows(role, Role.INCOMING)]).sum(axis=0)
        - spread(true[_rows(role, Role.OUTGOING)]).sum(axis=0),
        passes=np.full(wanted.shape[1], case.has_boundary),
        typical=mean,
        is_typical=is_typical,
    )
    return window, true, gone


def error_of(case: Case) -> Error:
    """Estimate a case, and return what the estimates missed."""
    window, true, gone = window_of(case)
    draft = estimated(window)
    made = draft.values.reshape(len(true), -1, SLOTS).sum(axis=2)[gone, 1:-1]
    right = true[gone, 1:-1]
    nets, _ = draft.net()
    return Error(
        total=int(right.sum()),
        of_sum=int(np.abs(made.sum(axis=1) - right.sum(axis=1)).sum()),
        of_quarters=int(np.abs(made - right).sum()),
        methods=frozenset(Method(int(m)) for m in np.unique(draft.method) if m),
        closes=bool((nets.sum(axis=0) == window.boundary).all()),
    )


def _rows(role: Sequence[Role], which: Role) -> list[int]:
    return [row for row, one in enumerate(role) if one is which]


def _typical(grid: Grid, every: _Array, gone: Sequence[int], begin: int, end: int) -> tuple[_Array, NDArray[np.bool_]]:
    """Return the mean of like days' quarters of the series that are gone; days before alone, as when a gap is new."""
    mean, found = np.zeros((len(every), end - begin), np.int64), np.zeros((len(every), end - begin), np.bool_)
    for column in range(begin, end):
        like = [q - grid.first for q in nearest(like_quarters(grid.first + column, ZONE), DAYS)]
        there = [q for q in like if 0 <= q < begin and not grid.island[q]]
        if there:
            mean[gone, column - begin], found[gone, column - begin] = (
                typical(every[np.ix_(gone, there)][..., None], np.ones((len(gone), len(there), 1), np.bool_), DAYS)[0][
                    ..., 0
                ],
                True,
            )
    return mean, found
