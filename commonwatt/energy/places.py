"""The places of microgrids of one layout as arrays: batteries, panels, services, feeders, cold load.

Layout: the kinds of the places in their order, and which places are behind which source. Centertown has three layouts:
800 microgrids of 10 houses, one of 3 buildings and 300 apartments, one of 4 public places.

Cold load: what places take after a time without energy, since their thermostats and heaters start together (C5).
A place is without energy in a step in which less than half of its ordinary load is met. From the step after its return
it is cold: for as long as it was without energy, at most half an hour, it takes three times its ordinary load, at most
what its service carries.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from commonwatt.energy.shedding import PlacePriority, priority_of
from commonwatt.energy.splits import Array, Flags
from commonwatt.model.units import SLOT_S, VOLTS, MicrogridId
from commonwatt.town.scenario import Drop
from commonwatt.town.town import Battery, Direction, Function, Meter, Microgrid, Town

FULL_SUN_HOURS = 8  # hours of full sun that fill a battery from empty (T1)
POWER_HOURS = 2  # hours in which a battery can be charged or discharged at full power

_SOURCES = (Function.BUILDING, Function.SOLAR_FARM)
_NO_BATTERY = Battery(capacity=0, minimum_percent=0)


@dataclass(frozen=True, kw_only=True)
class EnergyPlace:
    """A place with its meters."""

    location: str  # its name
    outgoing: Meter | None  # the meter of its battery and solar; ``None``: it has neither
    incoming: Meter | None  # the meter of its intake from the loop; ``None``: it uses no energy itself

    @property
    def meters(self) -> list[Meter]:
        """Its one or two meters."""
        return [meter for meter in (self.outgoing, self.incoming) if meter is not None]

    @property
    def battery(self) -> Battery:
        """Its battery; one without capacity if it has none."""
        return (self.outgoing.battery if self.outgoing is not None else None) or _NO_BATTERY


@dataclass(frozen=True, kw_only=True, eq=False)
class EnergySource:
    """A building or the farm: its sun and battery supply the places behind it."""

    column: int  # its place
    behind: NDArray[np.intp]  # the places behind it


@dataclass(frozen=True, kw_only=True, eq=False)
class Places:
    """The places of all microgrids of one layout; energies in milliwatt-hours, limits per step."""

    # The arrays with a row for each microgrid.
    BY_MICROGRID: ClassVar = ("capacity", "minimum", "weight", "full_sun", "power", "service", "feeder", "priority")

    microgrids: tuple[MicrogridId, ...]  # the names of the microgrids, one a row
    kind: str  # residential, apartment or public
    names: tuple[tuple[str, ...], ...]  # the names of the places of each microgrid
    step_s: int  # length of a step, seconds
    capacity: Array  # capacity of each battery, (M, P); 0: no battery
    minimum: Array  # level below which a battery does not share, and up to which it receives
    weight: Array  # a battery's part of a shared discharge, relative to other donors
    full_sun: Array  # generation in full sun
    power: Array  # limit of a battery's charge and discharge
    service: Array  # limit of a place's service
    feeder: Array  # limit of each microgrid's feeder, (M,)
    users: Flags  # which places use energy themselves, (P,)
    priority: Array  # the ``PlacePriority`` of each place; without a meter of its intake it is a source and never off
    sources: tuple[EnergySource, ...]  # the places that supply places behind them
    loss_permille: int  # part of what is charged that is lost, thousandths

    @property
    def shape(self) -> tuple[int, int]:
        """Number of microgrids, and of places in each."""
        rows, columns = self.capacity.shape
        return rows, columns

    def only(self, chosen: Flags) -> "Places":
        """Return the chosen ones of the microgrids, (M,)."""
        rows = np.flatnonzero(chosen)
        return replace(
            self,
            microgrids=tuple(self.microgrids[row] for row in rows),
            names=tuple(self.names[row] for row in rows),
            **{name: getattr(self, name)[rows] for name in self.BY_MICROGRID},
        )

    def generation(self, sun: float) -> Array:
        """Return each place's generation in a step, at a fraction of full sun, 0 to 1."""
        return np.asarray((self.full_sun * sun).astype(np.int64))


def use_up(places: Places, load: Array, level: Array, row: int, drop: Drop, number: int) -> None:
    """Add the extra load of the home that uses its battery up to the loads of a microgrid, the one of this number."""
    home = drop.home(number, places.shape[1])
    most = int(places.service[row, home] - load[row, home])
    load[row, home] += drop.use(int(level[row, home]), int(places.capacity[row, home]), places.step_s, most)


def places_of(microgrid: Microgrid, *, emulated: bool = True) -> list[EnergyPlace]:
    """Return the places of a microgrid in the order of their first meters.

    Args:
        emulated: Whether only those that are emulated.
    """
    meters: dict[str, dict[Direction, Meter]] = {}
    for meter in microgrid.meters:
        if (meter.emulated or not emulated) and meter.function is not Function.BOUNDARY:
            meters.setdefault(meter.location, {})[meter.direction] = meter
    return [
        EnergyPlace(location=location, outgoing=pair.get(Direction.OUTGOING), incoming=pair.get(Direction.INCOMING))
        for location, pair in meters.items()
    ]


def blocks_of(town: Town, microgrids: Iterable[Microgrid], step_s: int = SLOT_S) -> list[Places]:
    """Return microgrids of a town as arrays, those of one layout together, in the order of their first microgrid."""
    layouts: dict[object, list[tuple[Microgrid, list[EnergyPlace]]]] = {}
    for microgrid in microgrids:
        places = places_of(microgrid)
        layouts.setdefault(_layout(microgrid, places), []).append((microgrid, places))
    return [_block(members, step_s, town.table.charging_loss_permille) for members in layouts.values()]


def streets_of(microgrids: Iterable[Microgrid], step_s: int) -> list[Places]:
    """Return installed microgrids as arrays: those without a source together, the shorter ones with empty places.

    The loss of charging is not known, and taken as none.
    """
    layouts: dict[object, list[tuple[Microgrid, list[EnergyPlace]]]] = {}
    for microgrid in microgrids:
        places = places_of(microgrid, emulated=False)
        layouts.setdefault(_layout(microgrid, places) if _behind(places) else None, []).append((microgrid, places))
    empty = EnergyPlace(location="", outgoing=None, incoming=None)
    for members in layouts.values():
        longest = max(len(places) for _, places in members)
        members[:] = [(one, [*places, *[empty] * (longest - len(places))]) for one, places in members]
    return [_block(members, step_s, 0) for members in layouts.values()]


def _layout(microgrid: Microgrid, places: Sequence[EnergyPlace]) -> object:
    kinds = tuple((place.outgoing is None, place.incoming is None) for place in places)
    behind = tuple(tuple(columns) for columns in _behind(places).values())
    return microgrid.kind, kinds, behind


def _behind(places: Sequence[EnergyPlace]) -> Mapping[int, list[int]]:
    """Return the places behind each source: a building's apartments; for the farm, all places without a battery."""
    return {
        source: [
            column
            for column, place in enumerate(places)
            if place.outgoing is None
            and (meter.function is Function.SOLAR_FARM or place.location.startswith(f"{meter.location} "))
        ]
        for source, meter in ((column, place.outgoing) for column, place in enumerate(places))
        if meter is not None and meter.function in _SOURCES
    }


def _block(members: Sequence[tuple[Microgrid, list[EnergyPlace]]], step_s: int, loss_permille: int) -> Places:
    first = members[0][1]
    shape = (len(members), len(first))
    batteries = [place.battery for _, places in members for place in places]
    capacity = np.array([battery.capacity for battery in batteries], dtype=np.int64).reshape(shape)
    percent = np.array([battery.minimum_percent for battery in batteries], dtype=np.int64).reshape(shape)
    amps = [max((m.service_amps for m in place.meters), default=0) for _, places in members for place in places]
    boundary = [
        max((m.service_amps for m in grid.meters if m.function is Function.BOUNDARY), default=0) for grid, _ in members
    ]
    return Places(
        microgrids=tuple(microgrid.id for microgrid, _ in members),
        kind=members[0][0].kind,
        names=tuple(tuple(place.location for place in places) for _, places in members),
        step_s=step_s,
        capacity=capacity,
        # Rounded up: a battery at its minimum is never a fraction below it, and 8 hours of sun fill a battery.
        minimum=-(-capacity * percent // 100),
        weight=np.array([battery.weight for battery in batteries], dtype=np.int64).reshape(shape),
        full_sun=-(-capacity * step_s // (FULL_SUN_HOURS * 3600)),
        power=capacity * step_s // (POWER_HOURS * 3600),
        service=_limit(amps, step_s).reshape(shape),
        feeder=_limit(boundary, step_s),
        users=np.array([any(places[n].incoming for _, places in members) for n in range(shape[1])], dtype=np.bool_),
        priority=np.array([_priority(place) for _, places in members for place in places], np.int64).reshape(shape),
        sources=tuple(
            EnergySource(column=column, behind=np.array(behind, dtype=np.intp))
            for column, behind in _behind(first).items()
        ),
        loss_permille=loss_permille,
    )


def _priority(place: EnergyPlace) -> PlacePriority:
    return PlacePriority.KEPT if place.incoming is None else priority_of(place.incoming.function)


def _limit(amps: Sequence[int], step_s: int) -> Array:
    """Return the energy of services in a step, milliwatt-hours."""
    return np.asarray(np.array(amps, dtype=np.int64) * VOLTS * 1000 * step_s // 3600)


COLD_PERCENT = 300  # load of a cold place, as a percentage of its ordinary load
COLD_S = 1800  # most seconds for which a place is cold


def cold_load(places: Places, ordinary: Array, cold_s: Array) -> Array:
    """Return the loads in a step, by the ordinary loads and the state ``cold_s`` at its start (``cold_after``)."""
    most = np.maximum(places.service, ordinary)
    return np.where(cold_s > 0, np.minimum(ordinary * COLD_PERCENT // 100, most), ordinary)


def cold_after(places: Places, ordinary: Array, served: Array, cold_s: Array) -> Array:
    """Return for how many seconds places are still cold after a step; negative: so far without energy, (M, P).

    Args:
        ordinary: Their ordinary loads in the step.
        served: Their loads that were met.
        cold_s: The state at its start.
    """
    without = np.maximum(-np.abs(cold_s) - places.step_s, -COLD_S)
    with_energy = np.where(cold_s < 0, -cold_s, np.maximum(cold_s - places.step_s, 0))
    return np.where(served * 2 < ordinary, without, with_energy)
