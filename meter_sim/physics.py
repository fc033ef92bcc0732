"""The physics of microgrids by their meters' ids, as the emulator needs it (T1-T7, M8).

Meters of other makers are outside the model: they are not measured, and take and give no energy.

The physics of some or all microgrids of a town in one slot, by their meters' ids; with the plant or without it.
A pure function of its arguments; levels and cold loads are its only state. Without the plant, the town gives and takes
whatever the boundaries let pass.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from commonwatt.device.commands import Commanded
from commonwatt.energy.places import EnergyPlace, blocks_of, cold_after, cold_load, places_of, use_up
from commonwatt.energy.plant import Plant, PlantStep
from commonwatt.energy.splits import Array
from commonwatt.energy.step import (
    NO_LIMIT_W,
    Boundary,
    Cause,
    Inputs,
    MicrogridsStep,
    PlantInputs,
    step_alone,
    step_town,
)
from commonwatt.model.records import RecordType
from commonwatt.model.units import SLOT_S, EpochSeconds, MeterId, MicrogridId, MilliwattHours
from commonwatt.town.scenario import Drop
from commonwatt.town.town import Direction, Function, Microgrid, Town
from meter_sim.load import Surroundings, Weather, chance, seed_of


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """What the world and the meters' desired states do to a microgrid in one slot."""

    voltage: bool = True  # whether the town's side of the boundary has voltage; without, nothing passes
    sun_percent: int = 100  # sun that reaches the panels, as a percentage of what the weather lets through
    demand_percent: int = 100  # load, as a percentage of the ordinary load
    drop: Drop | None = None  # the home that uses its battery up; ``None``: none
    number: int = 0  # the microgrid's number, by which that home is found
    # Desired states in force, by meter id; absent meters have none.
    commanded: Mapping[MeterId, Commanded] = field(default_factory=dict)
    # For how long places are still cold, as ``PhysicsStep.cold`` of the slot before.
    cold: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PhysicsStep:
    """The result of one slot; energies in milliwatt-hours."""

    levels: dict[MeterId, MilliwattHours]  # level of each battery at the end of the slot, by its meter's id
    readings: dict[MeterId, dict[RecordType, MilliwattHours]]  # readings of each emulated meter, by record type
    # Energy that each battery shared, by its meter's id: positive given to other batteries, negative received from
    # them; batteries that took no part are absent.
    shared: dict[MeterId, MilliwattHours]
    served: dict[str, MilliwattHours]  # load met, by location
    unserved: dict[str, MilliwattHours]  # load shed, by location; only locations whose load was not met in full
    curtailed: dict[str, MilliwattHours]  # sun that nobody could use, by location; only locations with any
    lost: dict[str, MilliwattHours]  # loss of the battery's charge, by location; only locations with any
    short: dict[Cause, MilliwattHours]  # load shed in the microgrid, by cause
    spilled: dict[Cause, MilliwattHours]  # sun that nobody could use in the microgrid, by cause
    imported: MilliwattHours  # energy from the town; negative: to it
    generated: MilliwattHours  # sun used or exported
    # The meters without voltage: off the grid, with neither sun nor an energy store that could supply them.
    dark: frozenset[MeterId]
    # For how many seconds places are still cold, by location; negative: so far without energy (``cold_after``); only
    # locations that are either.
    cold: dict[str, int]

    def energy(self) -> dict[str, list[MilliwattHours] | dict[str, MilliwattHours]]:
        """Return what flowed, for the truth log: what is empty is left out."""
        facts: dict[str, list[MilliwattHours] | dict[str, MilliwattHours]] = {
            "served": list(self.served.values()),
            "unserved": self.unserved,
            "shared": {str(meter): moved for meter, moved in self.shared.items()},
            "curtailed": self.curtailed,
            "lost": self.lost,
            "short": {cause.name: energy for cause, energy in self.short.items()},
            "spilled": {cause.name: energy for cause, energy in self.spilled.items()},
            "cold": self.cold,
        }
        return {name: fact for name, fact in facts.items() if fact}


class MeteredMicrogrid:
    """A microgrid's row of the arrays: from its meters' ids to the row, and back."""

    def __init__(self, town: Town, microgrid: Microgrid) -> None:
        self._table = town.table
        self._microgrid = microgrid
        self._boundary = {m.direction: m for m in microgrid.meters if m.function is Function.BOUNDARY}
        self._places = places_of(microgrid)
        self._users = [i for i, place in enumerate(self._places) if place.incoming is not None]

    def initial_levels(self, time: EpochSeconds, percent: int | None = None) -> dict[MeterId, MilliwattHours]:
        """Return initial levels: 75 % on average; in a residential microgrid one home is near 25 % (N1).

        ``percent``: the mean level by a scenario, without a low home.
        """
        places = [place for place in self._places if place.outgoing is not None]
        key = (self._table.seed, self._microgrid.id, "level", time // SLOT_S)
        # The low home has a minimum above 25 %, so that sharing fills its battery.
        needy = [place.location for place in places if place.battery.minimum_percent > 25]
        low = None
        if percent is None and self._microgrid.kind == "residential" and needy and len(places) > 1:
            low = needy[seed_of(*key) % len(needy)]
        middle = 75.0 if low is None else min((75.0 * len(places) - 25.0) / (len(places) - 1), 85.0)
        middle = middle if percent is None else float(percent)
        levels = {}
        for place in places:
            wobble = 2 * chance(*key, place.location) - 1
            level = 25 + 2 * wobble if place.location == low else min(max(middle + 10 * wobble, 0), 100)
            levels[_battery_id(place)] = int(place.battery.capacity * level / 100)
        return levels

    def levels(self, levels: Mapping[MeterId, MilliwattHours]) -> list[MilliwattHours]:
        """Return the level of each place's battery; 0 without a battery.

        Raises:
            ValueError: A level is missing, negative or above its battery's capacity.
        """
        return [_level(place, levels) for place in self._places]

    def is_closed(self, commanded: Mapping[MeterId, Commanded]) -> bool:
        """Whether the boundary switch is closed: no boundary meter is isolated."""
        return not any(commanded.get(meter.id, _NOTHING).isolated for meter in self._boundary.values())

    def import_limit_w(self, commanded: Mapping[MeterId, Commanded]) -> int:
        """Return the limit of the import in force at the boundary meter, watts; ``NO_LIMIT_W``: none."""
        limits = [commanded.get(meter.id, _NOTHING).import_limit_w for meter in self._boundary.values()]
        return min((NO_LIMIT_W, *(limit for limit in limits if limit is not None)))

    def weights(self, commanded: Mapping[MeterId, Commanded]) -> list[int]:
        """Return the share of each battery's discharge relative to other donors; 0: it does not share."""
        told = [
            _NOTHING if place.outgoing is None else commanded.get(place.outgoing.id, _NOTHING) for place in self._places
        ]
        return [one.weight if one.sharing else 0 for one in told]

    def told(self, commanded: Mapping[MeterId, Commanded], which: Callable[[Commanded], bool]) -> list[bool]:
        """Return the places with a desired state at any of their meters."""
        return [any(which(commanded.get(m.id, _NOTHING)) for m in place.meters) for place in self._places]

    def by_location(self, values: Mapping[str, int]) -> list[int]:
        """Return the value of each place; 0 where none is given."""
        return [values.get(place.location, 0) for place in self._places]

    def report(self, step: MicrogridsStep, row: int, cold_s: Array, *, voltage: bool, closed: bool) -> PhysicsStep:
        """Return the levels, readings and totals of a slot by meter and location.

        Args:
            step: The step of the microgrids of its layout.
            row: Its row.
            cold_s: For how long the places of its layout are still cold.
            voltage: Whether the town's side of its boundary has voltage.
            closed: Whether its boundary switch is closed.
        """
        flows, passed = step.flows, step.exchange
        level, generation, given, received, absorbed, surplus, pushed, demand, served = (
            _row(values, row)
            for values in (
                flows.level,
                flows.generation,
                flows.given,
                flows.received,
                flows.absorbed,
                flows.surplus,
                flows.pushed,
                flows.demand,
                flows.served,
            )
        )
        levels, readings, shared = {}, {}, {}
        for i, place in enumerate(self._places):
            if place.outgoing is not None:
                meter = place.outgoing.id
                levels[meter] = level[i]
                readings[meter] = {
                    RecordType.GENERATION: generation[i],
                    RecordType.STORED: level[i],
                    RecordType.THROUGH: surplus[i] + pushed[i] + given[i],
                }
                if moved := given[i] + absorbed[i] - received[i]:
                    shared[meter] = moved
            if place.incoming is not None:
                readings[place.incoming.id] = {RecordType.THROUGH: demand[i] + received[i]}
        # Shared energy stays inside the microgrid: only sun and loads count at the boundary (C4).
        for direction, meter_ in self._boundary.items():
            through = passed.imported if direction is Direction.INCOMING else passed.exported
            readings[meter_.id] = {RecordType.THROUGH: int(through[row])}
        return PhysicsStep(
            levels=levels,
            readings=readings,
            shared=shared,
            served={self._places[i].location: served[i] for i in self._users},
            unserved=self._some(flows.unserved, row),
            curtailed=self._some(flows.curtailed, row),
            lost=self._some(flows.lost, row),
            short=_by_cause(passed.short, row),
            spilled=_by_cause(passed.spilled, row),
            imported=int(passed.imported[row] - passed.exported[row]),
            generated=sum(generation),
            dark=frozenset() if voltage and closed else self._dark(served, level, generation, voltage=voltage),
            cold=self._some(cold_s, row),
        )

    def _dark(
        self, served: list[MilliwattHours], level: list[MilliwattHours], sun: list[MilliwattHours], *, voltage: bool
    ) -> frozenset[MeterId]:
        """Return the meters without voltage in a microgrid that is off the grid.

        A place that got nothing has no voltage, as the loop then has none. The boundary's meters also have the town's.
        """
        dark = [not (served[i] or level[i] or sun[i]) for i in range(len(self._places))]
        meters = [
            meter.id for place, is_dark in zip(self._places, dark, strict=True) if is_dark for meter in place.meters
        ]
        if all(dark) and not voltage:
            meters += [meter.id for meter in self._boundary.values()]
        return frozenset(meters)

    def _some(self, values: Array, row: int) -> dict[str, MilliwattHours]:
        """Return the values that are not 0, by location."""
        return {place.location: value for place, value in zip(self._places, _row(values, row), strict=True) if value}


_NOTHING = Commanded()


def _row(values: Array, row: int) -> list[MilliwattHours]:
    found: list[MilliwattHours] = values[row].tolist()
    return found


def _by_cause(values: Array, row: int) -> dict[Cause, MilliwattHours]:
    return {cause: int(values[cause, row]) for cause in Cause if values[cause, row]}


def _battery_id(place: EnergyPlace) -> MeterId:
    assert place.outgoing is not None
    return place.outgoing.id


def _level(place: EnergyPlace, levels: Mapping[MeterId, MilliwattHours]) -> MilliwattHours:
    """Return the level of a place's battery; 0 without a battery."""
    if place.outgoing is None:
        return 0
    level = levels.get(place.outgoing.id, -1)
    if not 0 <= level <= place.battery.capacity:
        raise ValueError(f"battery of meter {place.outgoing.id}: level {level} is not in 0..{place.battery.capacity}")
    return level


Levels = Mapping[MeterId, MilliwattHours]  # level of each battery of a microgrid, by its meter's id
_Rows = Sequence[tuple[MeteredMicrogrid, Circumstances]]  # the microgrids of one layout, and what holds for each


class MeteredTown:
    """The physics of microgrids of a town."""

    def __init__(
        self,
        town: Town,
        microgrids: Iterable[Microgrid],
        *,
        plant: Plant | None = None,
        weather: Weather | None = None,
    ) -> None:
        members = list(microgrids)
        # Each microgrid's translation between meters and arrays.
        self.microgrids = {microgrid.id: MeteredMicrogrid(town, microgrid) for microgrid in members}
        self._plant = plant
        self._blocks = blocks_of(town, members)
        self.surroundings = Surroundings(town, self._blocks, weather)  # their sun and loads

    def step(
        self,
        time: EpochSeconds,
        levels: Mapping[MicrogridId, Levels],
        circumstances: Mapping[MicrogridId, Circumstances],
        told: PlantInputs | None = None,
    ) -> tuple[dict[MicrogridId, PhysicsStep], PlantStep | None]:
        """Return the result of the slot that starts at ``time``.

        Args:
            levels: Levels of the batteries at the start of the slot.
            told: What the plant depends on; with a plant only.

        Raises:
            ValueError: A level is missing, negative or above its battery's capacity.
        """
        arrays, inputs, boundaries, ordinary, cold = [], [], [], [], []
        for places, usual in zip(self._blocks, self.surroundings.at(time), strict=True):
            rows = [(self.microgrids[name], circumstances[name]) for name in places.microgrids]
            here = [one for _, one in rows]
            level = np.array([self.microgrids[name].levels(levels[name]) for name in places.microgrids], dtype=np.int64)
            load = _percent(usual.load, [one.demand_percent for one in here])
            cold_s = np.array([grid.by_location(one.cold) for grid, one in rows], dtype=np.int64)
            asked = cold_load(places, load, cold_s)
            for row, one in enumerate(here):
                if one.drop is not None:
                    use_up(places, asked, level, row, one.drop, one.number)
            sun = _percent(usual.generation, [one.sun_percent for one in here])
            arrays.append(level)
            inputs.append(_commanded(Inputs(load=asked, generation=sun), rows))
            boundaries.append(_boundary(rows))
            ordinary.append(load)
            cold.append(cold_s)
        plant: PlantStep | None = None
        if self._plant is None or told is None:
            steps = [step_alone(*each) for each in zip(self._blocks, arrays, inputs, boundaries, strict=True)]
        else:
            steps, plant = step_town(self._blocks, arrays, inputs, boundaries, self._plant, told)
        reports = {}
        for places, step, boundary, load, cold_s in zip(self._blocks, steps, boundaries, ordinary, cold, strict=True):
            after = cold_after(places, load, step.flows.served, cold_s)
            for row, name in enumerate(places.microgrids):
                reports[name] = self.microgrids[name].report(
                    step, row, after, voltage=bool(boundary.voltage[row]), closed=bool(boundary.closed[row])
                )
        return reports, plant


def _commanded(inputs: Inputs, rows: _Rows) -> Inputs:
    """Return the inputs of the microgrids of one layout with the desired states of their meters."""
    if not any(one.commanded for _, one in rows):
        return inputs
    weights = np.array([grid.weights(one.commanded) for grid, one in rows], dtype=np.int64)
    reducing = np.array([grid.told(one.commanded, lambda told: told.reducing) for grid, one in rows])
    isolated = np.array([grid.told(one.commanded, lambda told: told.isolated) for grid, one in rows])
    return replace(
        inputs,
        weights=weights if weights.any() else None,
        reducing=reducing if reducing.any() else None,
        isolated=isolated if isolated.any() else None,
    )


def _boundary(rows: _Rows) -> Boundary:
    return Boundary(
        voltage=np.array([one.voltage for _, one in rows]),
        # Isolated by command at a boundary meter: the switch is open.
        closed=np.array([grid.is_closed(one.commanded) for grid, one in rows]),
        import_limit_w=np.array([grid.import_limit_w(one.commanded) for grid, one in rows], dtype=np.int64),
    )


def _percent(values: Array, percents: Sequence[int]) -> Array:
    """Return the values of each microgrid as a percentage."""
    if all(percent == 100 for percent in percents):
        return values
    return values * np.array(percents, dtype=np.int64)[:, None] // 100
