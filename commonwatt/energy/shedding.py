"""Which islands reduce, and which places of an island or a limited microgrid are off in turn (C1, C5, U5).

Pure functions of levels, the import limit, time and the microgrid's number.

A battery stores a day of average use (T1, T2). So the energy above the floors, in hours of average use, needs no
measured load: 24 h times the part of the capacity that is above the floors. The fewer hours are left, the more places
are off, in turns of half an hour: houses first, apartments later, emergency services never. A house with energy above
its floor stays connected, since it takes nothing and can give.

What a limited microgrid may take from the town is subtracted from its average use. No more groups are off than come
nearest to the use that the limit does not cover. With a limit of 0 a microgrid is treated as an island.
"""

import hashlib
from dataclasses import dataclass, fields
from enum import IntEnum
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from commonwatt.energy.splits import row_sums
from commonwatt.energy.strategies import Energies, Flags
from commonwatt.model.units import EpochSeconds, MicrogridId
from commonwatt.town.town import Function

TURN_S = 1800  # seconds until the next third of the places is off
GROUPS = 3  # groups of places that take turns
DAY_H = 24.0  # hours of average use that a full battery stores (T1, T2)
# Hours of average use in an island's batteries below which its places reduce, and above which they no longer do.
REDUCES_BELOW_H, ENOUGH_H = 12.0, 18.0
REDUCED = 0.8  # use of a place that reduces, as a part of its use otherwise
RETURN_FACTOR = 1.25  # a rung that is in force ends at so many times its hours: a place does not come and go


class PlacePriority(IntEnum):
    """The order in which places are served (U5)."""

    KEPT = 0  # emergency services, sources of others, and meters of other makers: never off
    APARTMENT = 1
    HOUSE = 2


def priority_of(function: Function) -> PlacePriority:
    """Return the priority of a place by the function of its meter."""
    return {Function.HOUSE: PlacePriority.HOUSE, Function.APARTMENT: PlacePriority.APARTMENT}.get(
        function, PlacePriority.KEPT
    )


@dataclass(frozen=True, kw_only=True)
class Rung:
    """How many groups are off."""

    below_h: float  # it holds below so many hours of energy above the floors
    houses: int  # groups of houses that are off
    apartments: int  # groups of apartments that are off


LADDER = (
    Rung(below_h=4.0, houses=1, apartments=0),
    Rung(below_h=2.0, houses=2, apartments=1),
    Rung(below_h=1.0, houses=2, apartments=2),
)
"""The rungs, each beyond the one before."""
_SET_BITS = np.array([group.bit_count() for group in range(2**GROUPS)])


@dataclass(frozen=True, kw_only=True)
class Islands:
    """Islands and limited microgrids, microgrids by places; places without a battery have no capacity."""

    level: Energies  # the energy in each battery, milliwatt-hours
    floor: Energies  # its agreed floor, the sharing minimum
    capacity: Energies  # its capacity
    known: Flags  # whether its level is known, recent and can be
    priority: Energies  # the ``PlacePriority`` of each place
    rank: Energies  # its rank among those of its priority (``ranks``)
    off: Flags  # which places are off now
    number: Energies  # a number of each microgrid, (M,): neighbours are at different turns
    import_w: Energies  # most watts that each takes from the town, (M,); 0 in an island

    @cached_property
    def average_use_w(self) -> npt.NDArray[np.float64]:
        """The average use, watts, (M,): batteries that are known store a day of it."""
        capacity = row_sums(np.where(self.known, self.capacity, 0))
        return np.asarray(capacity / 1000 / DAY_H)


def energy_h(islands: Islands) -> npt.NDArray[np.float64]:
    """Return the hours of average use that all energy in the batteries gives, (M,); 0: no battery is known.

    A place uses its own battery to the end, so the energy below the floors counts.
    """
    energy, use = row_sums(np.where(islands.known, islands.level, 0)), islands.average_use_w
    hours: npt.NDArray[np.float64] = np.zeros(len(use))
    np.divide(energy / 1000, use, out=hours, where=use > 0)
    return hours


def reduces(hours: npt.NDArray[np.float64], reducing: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return which islands reduce, by the hours of energy left and whether they reduce now, (M,)."""
    result: npt.NDArray[np.bool_] = hours < np.where(reducing, ENOUGH_H, REDUCES_BELOW_H)
    return result


def hours_left(islands: Islands) -> npt.NDArray[np.float64]:
    """Return the hours of average use above the floors, beyond what the town gives, (M,).

    They are infinite where the town gives enough, or no battery is known.
    """
    use = islands.average_use_w - islands.import_w
    above = row_sums(np.where(islands.known, np.maximum(islands.level - islands.floor, 0), 0))
    hours: npt.NDArray[np.float64] = np.full(len(use), np.inf)
    np.divide(above / 1000, use, out=hours, where=use > 0)
    return hours


def _groups_without(islands: Islands) -> npt.NDArray[np.int64]:
    """Return how many groups use what the town does not give while all places reduce, (M,), rounded."""
    use = islands.average_use_w * REDUCED
    part = np.ones_like(use)
    np.divide(use - islands.import_w, use, out=part, where=use > 0)
    groups: npt.NDArray[np.int64] = np.rint(GROUPS * np.maximum(part, 0)).astype(np.int64)
    return groups


def shed(islands: Islands, time: EpochSeconds) -> Flags:
    """Return which places are off at a time, (M, P)."""
    result, hours = np.zeros_like(islands.off), hours_left(islands)
    rows = np.flatnonzero(hours < LADDER[0].below_h * RETURN_FACTOR)
    if rows.size:
        some = Islands(**{each.name: getattr(islands, each.name)[rows] for each in fields(islands)})
        result[rows] = _shed(some, hours[rows], time)
    return result


def _shed(islands: Islands, hours: npt.NDArray[np.float64], time: EpochSeconds) -> Flags:
    held = {each: _groups_off(islands, each) for each in (PlacePriority.APARTMENT, PlacePriority.HOUSE)}
    has_apartments = (islands.priority == PlacePriority.APARTMENT).any(axis=1)
    groups_off = np.zeros((len(hours), len(PlacePriority)), dtype=np.int64)
    for rung in LADDER:
        in_force = held[PlacePriority.HOUSE] >= rung.houses
        if rung.apartments:
            in_force = np.where(has_apartments, held[PlacePriority.APARTMENT] >= rung.apartments, in_force)
        below_h = np.where(in_force, rung.below_h * RETURN_FACTOR, rung.below_h)
        groups_off[hours < below_h] = (0, rung.apartments, rung.houses)
    groups_off = np.minimum(groups_off, _groups_without(islands)[:, None])
    off = np.take_along_axis(groups_off, islands.priority, axis=1)
    turn = time // TURN_S + islands.number[:, None] + islands.rank
    gives = islands.known & (islands.level > islands.floor)
    result: Flags = (turn % GROUPS < off) & ~gives
    return result


def _groups_off(islands: Islands, priority: PlacePriority) -> Energies:
    """Return how many groups of places of a priority are off now, (M,)."""
    off = islands.off & (islands.priority == priority)
    return _SET_BITS[np.bitwise_or.reduce(off << islands.rank % GROUPS, axis=1)]


def ranks(priority: Energies) -> Energies:
    """Return the rank of each place among those of its priority."""
    rank = np.zeros_like(priority)
    for each in PlacePriority:
        same = priority == each
        rank = np.where(same, np.cumsum(same, axis=1) - 1, rank)
    return rank


@lru_cache(maxsize=4096)
def number_of(microgrid: MicrogridId) -> int:
    """Return a microgrid's number for the turns."""
    return hashlib.sha256(microgrid.encode()).digest()[1]
