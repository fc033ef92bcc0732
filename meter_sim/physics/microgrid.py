"""The physics of one microgrid in one slot by its meters' ids, as the emulator needs it (T1-T7, M8, C2-C5).

A pure function of its arguments; battery levels are its only state. The town beside it gives and takes whatever the
boundary lets pass. Meters of other makers are outside the model: they are not measured, and take and give no energy.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from commonwatt.device.desired_states import Commanded
from commonwatt.model.ids import MeterId
from commonwatt.model.records import RecordType
from commonwatt.model.units import SLOT_S, EpochSeconds, MilliwattHours
from commonwatt.settlement.splits import Array, Flags
from commonwatt.town.town import Direction, Function, Meter, Microgrid, Town
from meter_sim.load import Loads
from meter_sim.physics.boundary import NO_LIMIT_W, Boundary, Cause
from meter_sim.physics.places import Place, blocks_of, consumers_of, places_of
from meter_sim.physics.step import Inputs
from meter_sim.physics.town import MicrogridsStep, step_alone
from meter_sim.weather import Weather, chance, seed_of

DemandPercent = Callable[[Meter, EpochSeconds], int]
"""A scenario's demand of the place behind a meter, as a percentage of its ordinary load in a slot."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The town's side of the microgrid's boundary in one slot.

    Attributes:
        voltage: Whether it has voltage; without, nothing passes.
        import_limit_w: Limit of the import, watts; it does not limit the export.
    """

    voltage: bool = True
    import_limit_w: int = NO_LIMIT_W


ON_GRID = Grid()


@dataclass(frozen=True, kw_only=True)
class Step:
    """The result of one slot; energies in milliwatt-hours.

    Attributes:
        levels: Level of each battery at the end of the slot, by its meter's id.
        readings: Readings of each emulated meter, by record type.
        shared: Energy that each battery shared, by its meter's id: positive given, negative received; batteries that
            took no part are absent.
        served: Load met, by location.
        unserved: Load shed, by location; only locations whose load was not met in full.
        curtailed: Sun that nobody could use, by location; only locations with any.
        lost: Loss of the battery's charge, by location; only locations with any.
        short: Load shed in the microgrid, by cause.
        spilled: Sun that nobody could use in the microgrid, by cause.
    """

    levels: dict[MeterId, MilliwattHours]
    readings: dict[MeterId, dict[RecordType, MilliwattHours]]
    shared: dict[MeterId, MilliwattHours]
    served: dict[str, MilliwattHours]
    unserved: dict[str, MilliwattHours]
    curtailed: dict[str, MilliwattHours]
    lost: dict[str, MilliwattHours]
    short: dict[Cause, MilliwattHours]
    spilled: dict[Cause, MilliwattHours]

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
        }
        return {name: fact for name, fact in facts.items() if fact}


class MicrogridPhysics:
    """The physics of one microgrid."""

    def __init__(
        self, town: Town, microgrid: Microgrid, weather: Weather | None = None, demand: DemandPercent | None = None
    ) -> None:
        """Take the town, one of its microgrids and, from a scenario, other weather or demand."""
        self._table = town.table
        self._microgrid = microgrid
        self._weather = weather or Weather(town.table)
        self._demand = demand
        self._boundary = {m.direction: m for m in microgrid.meters if m.function is Function.BOUNDARY}
        self._places = places_of(microgrid)
        (self._arrays,) = blocks_of(town, [microgrid])
        self._users = [i for i, place in enumerate(self._places) if place.incoming is not None]
        self._loads = Loads(tuple(consumers_of(town, microgrid)))

    def initial_levels(self, time: EpochSeconds) -> dict[MeterId, MilliwattHours]:
        """Return initial levels: 75 % on average; in a residential microgrid one home is near 25 % (N1)."""
        places = [place for place in self._places if place.outgoing is not None]
        key = (self._table.seed, self._microgrid.id, "level", time // SLOT_S)
        # The low home has a minimum above 25 %, so that sharing fills its battery.
        needy = [place.location for place in places if place.battery.minimum_percent > 25]
        low = None
        if self._microgrid.kind == "residential" and needy and len(places) > 1:
            low = needy[seed_of(*key) % len(needy)]
        middle = 75.0 if low is None else min((75.0 * len(places) - 25.0) / (len(places) - 1), 85.0)
        levels = {}
        for place in places:
            wobble = 2 * chance(*key, place.location) - 1
            percent = 25 + 2 * wobble if place.location == low else middle + 10 * wobble
            levels[_battery_id(place)] = int(place.battery.capacity * percent / 100)
        return levels

    def step(
        self,
        levels: Mapping[MeterId, MilliwattHours],
        slot_start: EpochSeconds,
        commanded: Mapping[MeterId, Commanded],
        grid: Grid = ON_GRID,
    ) -> Step:
        """Return the result of the slot that starts at ``slot_start``.

        Args:
            levels: Level of each battery at the start of the slot, by its meter's id.
            slot_start: Start of the slot, UTC epoch seconds.
            commanded: Desired states in force, by meter id; absent meters have none.
            grid: The town's side of the boundary.

        Raises:
            ValueError: A level is missing, negative or above its battery's capacity.
        """
        level = np.array([[_level(place, levels) for place in self._places]], dtype=np.int64)
        inputs = self._inputs(slot_start, commanded)
        # Isolated by command at a boundary meter: the switch is open.
        closed = not any(commanded.get(meter.id, _NOTHING).isolated for meter in self._boundary.values())
        boundary = Boundary(
            voltage=np.array([grid.voltage]),
            closed=np.array([closed]),
            import_limit_w=np.array([grid.import_limit_w], dtype=np.int64),
        )
        return self._report(step_alone(self._arrays, level, inputs, boundary))

    def _inputs(self, time: EpochSeconds, commanded: Mapping[MeterId, Commanded]) -> Inputs:
        """Return the sun, the loads and the places' desired states in a slot."""
        load = np.zeros(self._arrays.shape, dtype=np.int64)
        load[0, self._users] = self._loads.at(time, self._weather.temperature_c(time))
        if self._demand is not None:
            for i in self._users:
                load[0, i] = load[0, i] * self._demand(_incoming(self._places[i]), time) // 100
        weights = [0] * len(self._places)
        for i, place in enumerate(self._places):
            if place.outgoing is not None and (told := commanded.get(place.outgoing.id, _NOTHING)).sharing:
                weights[i] = told.weight
        return Inputs(
            load=load,
            generation=self._arrays.generation(self._weather.solar(time)),
            weights=np.array([weights], dtype=np.int64) if any(weights) else None,
            reducing=self._told(commanded, lambda told: told.reducing),
            isolated=self._told(commanded, lambda told: told.isolated),
        )

    def _told(self, commanded: Mapping[MeterId, Commanded], which: Callable[[Commanded], bool]) -> Flags | None:
        """Return the places with a desired state at any of their meters; ``None``: no place."""
        if not commanded:
            return None
        told = [any(which(commanded.get(m.id, _NOTHING)) for m in place.meters) for place in self._places]
        return np.array([told]) if any(told) else None

    def _report(self, step: MicrogridsStep) -> Step:
        """Return the levels, readings and totals of the slot by meter and location."""
        flows, passed = step.flows, step.exchange
        level, generation, given, received = (
            _row(values) for values in (flows.level, flows.generation, flows.given, flows.received)
        )
        out, into = _row(flows.surplus + flows.pushed + flows.given), _row(flows.demand + flows.received)
        levels, readings, shared = {}, {}, {}
        for i, place in enumerate(self._places):
            if place.outgoing is not None:
                meter = place.outgoing.id
                levels[meter] = level[i]
                readings[meter] = {
                    RecordType.GENERATION: generation[i],
                    RecordType.STORED: level[i],
                    RecordType.THROUGH: out[i],
                }
                if given[i] or received[i]:
                    shared[meter] = given[i] - received[i]
            if place.incoming is not None:
                readings[place.incoming.id] = {RecordType.THROUGH: into[i]}
        # Shared energy stays inside the microgrid: only sun and loads count at the boundary (C4).
        for direction, meter_ in self._boundary.items():
            through = passed.imported if direction is Direction.INCOMING else passed.exported
            readings[meter_.id] = {RecordType.THROUGH: int(through[0])}
        served = _row(flows.served)
        return Step(
            levels=levels,
            readings=readings,
            shared=shared,
            served={self._places[i].location: served[i] for i in self._users},
            unserved=self._some(flows.unserved),
            curtailed=self._some(flows.curtailed),
            lost=self._some(flows.lost),
            short=_by_cause(passed.short),
            spilled=_by_cause(passed.spilled),
        )

    def _some(self, values: Array) -> dict[str, MilliwattHours]:
        """Return the values that are not 0, by location."""
        return {self._places[i].location: int(values[0, i]) for i in np.flatnonzero(values[0])}


_NOTHING = Commanded()


def _row(values: Array) -> list[MilliwattHours]:
    row: list[MilliwattHours] = values[0].tolist()
    return row


def _by_cause(values: Array) -> dict[Cause, MilliwattHours]:
    return {cause: int(values[cause, 0]) for cause in Cause if values[cause, 0]}


def _battery_id(place: Place) -> MeterId:
    assert place.outgoing is not None
    return place.outgoing.id


def _incoming(place: Place) -> Meter:
    assert place.incoming is not None
    return place.incoming


def _level(place: Place, levels: Mapping[MeterId, MilliwattHours]) -> MilliwattHours:
    """Return the level of a place's battery; 0 without a battery."""
    if place.outgoing is None:
        return 0
    level = levels.get(place.outgoing.id, -1)
    if not 0 <= level <= place.battery.capacity:
        raise ValueError(f"battery of meter {place.outgoing.id}: level {level} is not in 0..{place.battery.capacity}")
    return level
