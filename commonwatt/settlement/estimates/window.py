"""What is known of a microgrid while readings are missing, and what was estimated: slots of 15 s by meter."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.units import MilliwattHours, Quarter
from commonwatt.settlement.estimates import Energies, Flags
from commonwatt.settlement.sharing import net_charge


class Role(IntEnum):
    """What a series of readings measures of its place."""

    INCOMING = 1
    OUTGOING = 2
    GENERATION = 3
    LEVEL = 4


Place: TypeAlias = Mapping[Role, Sequence[int]]  # the series of a place by role


@dataclass(frozen=True, kw_only=True)
class Registered:
    """A known difference of a meter's register over some slots."""

    row: int  # the series
    start: int  # first slot
    end: int  # the slot after the last
    energy: MilliwattHours  # the difference, milliwatt-hours


@dataclass(frozen=True, kw_only=True, eq=False)
class Window:
    """The readings of a microgrid's n series in some quarters in a row."""

    first: Quarter  # the first quarter
    role: Sequence[Role]  # what each series measures
    place: Sequence[int]  # the number of its place, from 0 without holes
    values: Energies  # readings, milliwatt-hours, (n, slots); 0 where not known
    known: Flags  # where there is a reading, (n, slots)
    outage: Flags  # where the meter was off, or the microgrid an island, (n, slots)
    wanted: Flags  # missing slots to estimate, (n, slots)
    boundary: Energies  # import minus export at the microgrid's boundary, (slots)
    passes: Flags  # where it is known, (slots)
    typical: Energies  # energy of each quarter on like days, or its last level, (n, quarters)
    is_typical: Flags  # where it is known, (n, quarters)
    registers: Sequence[Registered] = ()  # known differences of registers
    loss_permille: int = 0  # part of a battery's charge that is lost, thousandths

    @property
    def places(self) -> list[Place]:
        """The series of each place by role; of a role several, where one meter follows another at an exchange."""
        found: list[dict[Role, list[int]]] = [{} for _ in range(max(self.place, default=-1) + 1)]
        for row, (place, role) in enumerate(zip(self.place, self.role, strict=True)):
            found[place].setdefault(role, []).append(row)
        return [*found]


@dataclass(eq=False)
class Draft:
    """The readings of a window with what is estimated so far."""

    window: Window  # the window
    values: Energies = field(init=False)  # readings and estimates, (n, slots)
    there: Flags = field(init=False)  # where there is either, (n, slots)
    method: NDArray[np.uint8] = field(init=False)  # ``Method`` of each estimate, 0: none, (n, slots)

    def __post_init__(self) -> None:
        """Begin with the readings."""
        self.values = np.where(self.window.known, self.window.values, 0)
        self.there = self.window.known.copy()
        self.method = np.zeros(self.values.shape, np.uint8)

    def put(self, row: int, slots: Flags, values: Energies, method: int) -> None:
        """Set the estimates of some slots of a series that are wanted and still missing."""
        free = slots & self.window.wanted[row] & ~self.there[row]
        self.values[row, free] = values[free]
        self.method[row, free] = method
        self.there[row] |= free

    def net(self) -> tuple[Energies, Flags]:
        """Return intake minus output of each place, and where it is known or estimated, (places, slots).

        A building's or the farm's battery has no incoming meter: its net intake is its charge minus its generation.
        """
        rows = [self._net_of(place) for place in self.window.places]
        if not rows:
            return np.zeros((0, self.values.shape[1]), np.int64), np.zeros((0, self.values.shape[1]), np.bool_)
        return np.stack([net for net, _ in rows]), np.stack([known for _, known in rows])

    def through(self, place: Place, role: Role) -> tuple[Energies, Flags]:
        """Return what passed a place's meters of a direction, and where all of it is known or estimated, (slots).

        A meter outside its time at the place reads 0 there.
        """
        rows = list(place.get(role, ()))
        there = self.there[rows].all(axis=0) if rows else np.zeros(self.there.shape[1], np.bool_)
        return self.values[rows].sum(axis=0), np.asarray(there)

    def _net_of(self, place: Place) -> tuple[Energies, Flags]:
        values, there = self.values, self.there
        out, has_out = self.through(place, Role.OUTGOING)
        if Role.INCOMING in place:
            into, has_into = self.through(place, Role.INCOMING)
            return into - out, has_into & (has_out if Role.OUTGOING in place else True)
        if Role.LEVEL not in place or Role.GENERATION not in place:
            return -out, has_out
        # After an exchange those of the new meter: its level is not known before.
        level, sun = place[Role.LEVEL][-1], place[Role.GENERATION][-1]
        before = np.concatenate([values[level, :1], values[level, :-1]])
        known_before = np.concatenate([[False], there[level, :-1]])
        charge = net_charge(values[level] - before, self.window.loss_permille)
        return charge - values[sun], there[level] & known_before & there[sun]
