"""A microgrid as settlement sees it in a day: who sends, who takes, which battery supplies which places."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.units import MeterId, MicrogridId, Quarter
from commonwatt.town.town import Direction, Function
from utility.energy.quarters import QUARTERS_A_DAY
from utility.registry.accounts import Installed

Day = int  # a day of UTC, counted from 1970: quarter // 96


@dataclass(frozen=True, kw_only=True)
class BatteryPlace:
    """A battery of a microgrid."""

    sender: int  # the number of its outgoing meter among the senders
    own: tuple[int, ...]  # the takers that are the incoming meter of its place
    behind: tuple[int, ...]  # the takers at places behind its building or farm
    capacity: int  # its capacity, milliwatt-hours


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The meters of a microgrid that were there on a day; each sequence by id."""

    microgrid: MicrogridId  # its name
    senders: tuple[Installed, ...]  # the outgoing meters
    takers: tuple[Installed, ...]  # the incoming meters
    boundary_in: tuple[Installed, ...]  # the boundary's meters of what the town gave
    boundary_out: tuple[Installed, ...]  # the boundary's meters of what the town took
    batteries: tuple[BatteryPlace, ...]  # the batteries

    @property
    def meters(self) -> tuple[Installed, ...]:
        """All of them."""
        return (*self.senders, *self.takers, *self.boundary_in, *self.boundary_out)

    @property
    def unmetered(self) -> tuple[BatteryPlace, ...]:
        """The batteries whose place has no incoming meter."""
        return tuple(battery for battery in self.batteries if not battery.own)

    @property
    def shape(self) -> object:
        """What microgrids that are settled together have in common."""
        places = tuple((battery.sender, battery.own, battery.behind) for battery in self.batteries)
        return len(self.senders), len(self.takers), len(self.boundary_in), len(self.boundary_out), places


def layout_of(microgrid: MicrogridId, members: Iterable[Installed], day: Day) -> Layout:
    """Return the layout on a day of a microgrid with the meters that it has or had."""
    there = sorted((meter for meter in members if installed_in(meter, day).any()), key=lambda meter: meter.id)
    boundary = [meter for meter in there if meter.function is Function.BOUNDARY]
    inside = [meter for meter in there if meter.function is not Function.BOUNDARY]
    senders = tuple(meter for meter in inside if meter.direction is Direction.OUTGOING)
    takers = tuple(meter for meter in inside if meter.direction is Direction.INCOMING)
    return Layout(
        microgrid=microgrid,
        senders=senders,
        takers=takers,
        boundary_in=tuple(meter for meter in boundary if meter.direction is Direction.INCOMING),
        boundary_out=tuple(meter for meter in boundary if meter.direction is Direction.OUTGOING),
        batteries=tuple(
            _battery(number, meter, senders, takers)
            for number, meter in enumerate(senders)
            if meter.capacity is not None
        ),
    )


def alike(layouts: Sequence[Layout]) -> list[list[Layout]]:
    """Return the layouts in groups of one shape, in the order of their first."""
    groups: dict[object, list[Layout]] = {}
    for layout in layouts:
        groups.setdefault(layout.shape, []).append(layout)
    return list(groups.values())


def installed_in(meter: Installed, day: Day) -> NDArray[np.bool_]:
    """Return in which quarters of a day a meter was there, (96)."""
    quarters = day * QUARTERS_A_DAY + np.arange(QUARTERS_A_DAY)
    first = meter.start if meter.start is not None else 0
    return np.asarray((quarters >= first) & (quarters < (2**62 if meter.end is None else meter.end)))


def exchanges(layout: Layout, day: Day) -> set[Quarter]:
    """Return the quarters of a day at whose start a meter came or went: a new stretch of the residual begins."""
    first = day * QUARTERS_A_DAY
    dates = {date for meter in layout.meters for date in (meter.start, meter.end) if date is not None}
    return {date for date in dates if first <= date < first + QUARTERS_A_DAY}


def ids_of(meters: Iterable[Installed]) -> list[MeterId]:
    """Return the ids of meters."""
    return [meter.id for meter in meters]


def _battery(number: int, meter: Installed, senders: Sequence[Installed], takers: Sequence[Installed]) -> BatteryPlace:
    with_battery = {sender.place for sender in senders if sender.capacity is not None}
    behind: list[int] = []
    if meter.function is Function.SOLAR_FARM:
        behind = [n for n, taker in enumerate(takers) if taker.place not in with_battery]
    elif meter.function is Function.BUILDING:
        behind = [n for n, taker in enumerate(takers) if taker.building == meter.place]
    return BatteryPlace(
        sender=number,
        own=tuple(n for n, taker in enumerate(takers) if taker.place == meter.place),
        behind=tuple(behind),
        capacity=meter.capacity or 0,
    )
