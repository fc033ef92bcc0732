"""Three measures of how evenly the members of a microgrid are treated in a run (docs/scenarios.md).

- ``served``: Jain's index of the parts of their demand that members got (Jain, Chiu, Hawe: A Quantitative Measure of
  Fairness, DEC-TR-301, 1984). 1: all got the same part; 1/n: one of n members got everything.
- ``given``: Jain's index of the parts of their surplus that batteries gave to other batteries.
- ``shortfall``: the largest part of a member's demand that was not met, less the mean of all members: how far the
  worst-off is behind, the view of max-min fairness (Bertsekas, Gallager: Data Networks, 1992, section 6.5.2).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from commonwatt.energy.physics.places import Places
from commonwatt.energy.physics.step import Flows
from commonwatt.model.units import MicrogridId, MilliwattHours
from commonwatt.settlement.splits import Array, row_sums

Parts = NDArray[np.float64]  # a part of 1 for each place or microgrid; NaN: it has none


def jain(values: Parts) -> Parts:
    """Return Jain's index of each row's values, without NaN; NaN for rows without values, 1 for rows of zeros."""
    count = (~np.isnan(values)).sum(axis=1)
    total, squares = np.nansum(values, axis=1), np.nansum(values**2, axis=1)
    even = np.where(count > 0, 1.0, np.nan)
    return np.asarray(np.divide(total**2, count * squares, out=even, where=squares > 0))


def behind(values: Parts) -> Parts:
    """Return how far each row's largest value is above the mean of its values, without NaN."""
    count = (~np.isnan(values)).sum(axis=1)
    mean = np.divide(np.nansum(values, axis=1), count, out=np.full(len(values), np.nan), where=count > 0)
    return np.asarray(np.where(np.isnan(values), -np.inf, values).max(axis=1) - mean)


class Tally:
    """The energies of each place of one layout's microgrids over a run, milliwatt-hours, (M, P)."""

    def __init__(self, places: Places) -> None:
        self.places = places
        self._wanted, self._short, self._given, self._surplus = (
            np.zeros(places.shape, dtype=np.int64) for _ in range(4)
        )

    def add(self, flows: Flows, load: Array) -> None:
        """Add a step with the ordinary ``load``; surpluses count while batteries of the microgrid share."""
        self._wanted += load
        self._short += flows.unserved
        shares = row_sums(flows.given) > 0
        if shares.any():
            before = flows.level - flows.net + flows.lost
            self._given += flows.given
            self._surplus += np.maximum(before - self.places.minimum, 0) * shares[:, None]

    @property
    def members(self) -> int:
        """Number of places that wanted energy."""
        return int((self._wanted > 0).sum())

    @property
    def short_members(self) -> int:
        """Number of places that did not get all that they wanted."""
        return int((self._short > 0).sum())

    @property
    def by_minimum(self) -> dict[int, tuple[MilliwattHours, MilliwattHours]]:
        """What places wanted and what they did not get, by their batteries' sharing minimum in percent."""
        has = self.places.capacity > 0
        percent = np.where(has, self.places.minimum * 100 // np.maximum(self.places.capacity, 1), -1)
        return {
            int(each): (int(self._wanted[percent == each].sum()), int(self._short[percent == each].sum()))
            for each in np.unique(percent[has])
        }

    @property
    def measures(self) -> dict[str, Parts]:
        """The measures of each microgrid, (M,); NaN where nobody wanted energy, or nobody shared."""
        short = _parts(self._short, self._wanted)
        return {
            "served": jain(1 - short),
            "given": jain(_parts(self._given, self._surplus)),
            "shortfall": behind(short),
        }


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A measure over the microgrids of the town that have it."""

    mean: float  # the mean
    worst: float  # the worst: the least of an index, the largest shortfall
    where: MicrogridId  # the first microgrid with the worst
    microgrids: int  # how many microgrids have it


def fairness(tallies: Sequence[Tally]) -> dict[str, Measure]:
    """Return the measures over the town; a measure that no microgrid has is missing."""
    names = [name for tally in tallies for name in tally.places.microgrids]
    every = [tally.measures for tally in tallies]
    found = {name: np.concatenate([one[name] for one in every]) for name in (every[0] if every else ())}
    return {name: _over(names, values, name) for name, values in found.items() if not np.isnan(values).all()}


def _over(names: Sequence[MicrogridId], values: Parts, measure: str) -> Measure:
    row = int(np.nanargmax(values) if measure == "shortfall" else np.nanargmin(values))
    return Measure(
        mean=float(np.nanmean(values)),
        worst=float(values[row]),
        where=names[row],
        microgrids=int((~np.isnan(values)).sum()),
    )


def _parts(part: NDArray[np.int64], whole: NDArray[np.int64]) -> Parts:
    return np.asarray(np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0))
