"""The places of a microgrid as bills see them: their meters, and which account had the place in each quarter."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.units import Quarter
from commonwatt.town.town import Function
from utility.registry.accounts import Installed

# The kinds of places that use energy.
UNITS = frozenset({Function.HOUSE, Function.APARTMENT, Function.HOSPITAL, Function.POLICE, Function.FIRE})
# The kinds of places that get the solar farm's credit.
PUBLIC = frozenset({Function.HOSPITAL, Function.POLICE, Function.FIRE})


@dataclass(frozen=True, kw_only=True)
class Place:
    """A place."""

    name: str  # its name
    function: Function  # its kind
    building: str | None  # the place of the building that it is in; ``None``: in none
    meters: tuple[Installed, ...]  # its meters, by id

    def exists(self, first: Quarter, until: Quarter) -> NDArray[np.bool_]:
        """Return in which quarters the place exists: from its first meter's installation to its last one's removal."""
        starts = [meter.start for meter in self.meters]
        ends = [meter.end for meter in self.meters]
        found = np.full(until - first, fill_value=True)
        if None not in starts:
            found[: max(0, min(s for s in starts if s is not None) - first)] = False
        if None not in ends:
            found[max(0, max(e for e in ends if e is not None) - first) :] = False
        return found

    def owners(self, first: Quarter, until: Quarter) -> NDArray[np.int64]:
        """Return the account that had the place in each quarter; 0: none. Of several meters the lowest id counts."""
        found = np.zeros(until - first, np.int64)
        for meter in reversed(self.meters):
            for account, start, end in meter.held(first, until):
                found[start - first : end - first] = account
        return found


def places_of(members: Iterable[Installed]) -> list[Place]:
    """Return the places of a microgrid by name, without its boundary."""
    by_name: dict[str, list[Installed]] = {}
    for meter in members:
        if meter.function is not Function.BOUNDARY:
            by_name.setdefault(meter.place, []).append(meter)
    return [_place(name, meters) for name, meters in sorted(by_name.items())]


def _place(name: str, meters: Sequence[Installed]) -> Place:
    ordered = sorted(meters, key=lambda meter: meter.id)
    return Place(name=name, function=ordered[0].function, building=ordered[0].building, meters=tuple(ordered))
