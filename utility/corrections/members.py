"""The meters of a microgrid as validation sees them: places, the series that settlement needs, the boundary."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.ids import MeterId
from commonwatt.model.records import RecordType
from commonwatt.model.units import MilliwattHours, Quarter
from commonwatt.settlement.estimates.window import Role
from commonwatt.town.town import Direction, Function

Series = tuple[int, int]  # a meter's number in the database, and a record type


@dataclass(frozen=True, kw_only=True)
class Member:
    """A meter of a microgrid."""

    no: int  # its number in the database
    id: MeterId  # its id
    location: str  # its place
    function: Function  # the kind of place behind it
    direction: Direction  # the direction it measures
    record_types: frozenset[int]  # its record types
    capacity: MilliwattHours | None  # capacity of the battery behind it, milliwatt-hours; ``None``: no battery
    # The largest plausible reading of a slot by record type, milliwatt-hours.
    limits: Mapping[int, MilliwattHours] = field(default_factory=dict)
    since: Quarter | None = None  # its first quarter in this place; ``None``: from the beginning
    until: Quarter | None = None  # the quarter after its last; ``None``: it is still there

    def in_place(self, quarters: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return in which quarters it was in its place: only then its energy is a part of the microgrid's."""
        after = quarters >= (self.since or 0)
        return after if self.until is None else after & (quarters < self.until)

    @property
    def place(self) -> tuple[str, int]:
        """Its place: the meters of another maker at one location are places of their own."""
        is_other = self.function in (Function.FOREIGN, Function.ADAPTED)
        return self.location, self.no if is_other else 0


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The series of a microgrid."""

    series: tuple[Series, ...]  # the series that settlement needs
    role: tuple[Role, ...]  # what each measures
    place: tuple[int, ...]  # the number of its place
    places: tuple[tuple[Member, ...], ...]  # the meters of each place
    boundary: tuple[Member, Member] | None  # the boundary's meters, by direction; both or none


def members_in(members: Sequence[Member], first: Quarter, until: Quarter) -> list[Member]:
    """Return the members that were in their places in a quarter from ``first`` to before ``until``."""
    return [m for m in members if (m.since or 0) < until and (m.until is None or first < m.until)]


def layout_of(members: Sequence[Member]) -> Layout:
    """Return the series of a microgrid.

    Every meter's energy counts. Generation and level count where a battery has no incoming meter, whose intake follows
    from them.
    """
    ends = {m.direction: m for m in members if m.function is Function.BOUNDARY}
    inside = [m for m in members if m.function is not Function.BOUNDARY]
    names = sorted({m.place for m in inside})
    places = tuple(tuple(m for m in inside if m.place == name) for name in names)
    found: list[tuple[Series, Role, int]] = []
    for number, meters in enumerate(places):
        is_metered_in = any(m.direction is Direction.INCOMING for m in meters)
        for one in meters:
            role = Role.INCOMING if one.direction is Direction.INCOMING else Role.OUTGOING
            found.append(((one.no, int(RecordType.THROUGH)), role, number))
            if role is Role.OUTGOING and not is_metered_in:
                for kind, of in ((RecordType.GENERATION, Role.GENERATION), (RecordType.STORED, Role.LEVEL)):
                    if kind in one.record_types:
                        found.append(((one.no, int(kind)), of, number))
    return Layout(
        series=tuple(series for series, _, _ in found),
        role=tuple(role for _, role, _ in found),
        place=tuple(place for _, _, place in found),
        places=places,
        boundary=(ends[Direction.INCOMING], ends[Direction.OUTGOING]) if len(ends) == len(Direction) else None,
    )
