"""The energy of one microgrid in one slot: sun, loads, batteries, the loop between them, the town (T1-T7, M8, C2-C5).

A pure function of its arguments; battery levels are its only state. Energy is integer milliwatt-hours and is conserved
exactly. Place: generation + discharge + intake = load served + output. Loop: energy in from places and town = energy
out to places and town. The model has no losses inside the microgrid.

A house uses its sun first, then its battery, then the loop. A building and the farm supply the places behind them in
the same order, through the loop. Surplus charges the own battery, then supplies other places, then the town.
Sharing is additional (M8): between batteries, on command, down to the donors' minima and up to the receivers' minima.
Meters of other makers are outside the model: they are not measured, and take and give no energy.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from commonwatt.device.desired_states import Commanded
from commonwatt.model.ids import MeterId
from commonwatt.model.records import RecordType
from commonwatt.model.units import SLOT_S, VOLTS, EpochSeconds, MilliwattHours
from commonwatt.town.town import Battery, Direction, Function, Meter, Microgrid, Town, average_w
from meter_sim.load import Consumer, Loads
from meter_sim.weather import Weather, chance, seed_of

FULL_SUN_HOURS = 8
"""Hours of full sun that fill a battery from empty (T1)."""

POWER_HOURS = 2
"""Hours in which a battery can be charged or discharged at full power."""

REDUCED_PERCENT = 80
"""Load of a place with the command to reduce, as a percentage of its ordinary load."""

_SLOTS_PER_HOUR = 3600 // SLOT_S
_SOURCES = (Function.BUILDING, Function.SOLAR_FARM)

DemandPercent = Callable[[Meter, EpochSeconds], int]
"""A scenario's demand of the place behind a meter, as a percentage of its ordinary load in a slot."""


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
    """

    levels: dict[MeterId, MilliwattHours]
    readings: dict[MeterId, dict[RecordType, MilliwattHours]]
    shared: dict[MeterId, MilliwattHours]
    served: dict[str, MilliwattHours]
    unserved: dict[str, MilliwattHours]


@dataclass(frozen=True, kw_only=True)
class _Place:
    """A place with its meters and battery; limits in milliwatt-hours per slot.

    Attributes:
        location: Its name.
        outgoing: The meter of its battery and solar.
        incoming: The meter of its intake from the loop.
        battery: Its battery.
        minimum: Level below which its battery does not share, and up to which it receives.
        full_sun: Generation in full sun.
        power: Limit of the battery's charge and discharge.
        service: Limit of the service.
    """

    location: str
    outgoing: Meter | None
    incoming: Meter | None
    battery: Battery
    minimum: MilliwattHours
    full_sun: MilliwattHours
    power: MilliwattHours
    service: MilliwattHours

    @property
    def meters(self) -> list[Meter]:
        """Its one or two meters."""
        return [meter for meter in (self.outgoing, self.incoming) if meter is not None]


@dataclass(slots=True, kw_only=True)
class _Flow:
    """A place within one step; energies in milliwatt-hours."""

    place: _Place
    isolated: bool
    load: MilliwattHours
    level: MilliwattHours
    generation: MilliwattHours = 0
    drawn: MilliwattHours = 0
    """Discharge for its own load, or for the places behind it."""
    charged: MilliwattHours = 0
    """Charge of its battery from its own sun."""
    demand: MilliwattHours = 0
    """Load to be met from the loop."""
    surplus: MilliwattHours = 0
    """Sun left over for the loop."""
    pushed: MilliwattHours = 0
    """Sent into the loop for the places behind it (building, farm)."""
    unserved: MilliwattHours = 0
    given: MilliwattHours = 0
    received: MilliwattHours = 0


def split(total: MilliwattHours, weights: Sequence[int], caps: Sequence[MilliwattHours]) -> list[MilliwattHours]:
    """Divide ``total`` in proportion to the weights, no share above its cap; energy beyond all caps is left out.

    The odd milliwatt-hours go to the largest remainders; of equal remainders, to the first.
    """
    result = [0] * len(caps)
    active = [i for i, cap in enumerate(caps) if cap > 0 and weights[i] > 0]
    rest = total
    while active and rest > 0:
        whole = sum(weights[i] for i in active)
        full = [i for i in active if caps[i] * whole <= weights[i] * rest]
        if not full:
            for i in active:
                result[i] = weights[i] * rest // whole
            odd = rest - sum(result[i] for i in active)
            for i in sorted(active, key=lambda i: -(weights[i] * rest % whole))[:odd]:
                result[i] += 1
            break
        for i in full:
            result[i] = caps[i]
        rest -= sum(caps[i] for i in full)
        done = set(full)
        active = [i for i in active if i not in done]
    return result


def water_fill(total: MilliwattHours, caps: Sequence[MilliwattHours]) -> list[MilliwattHours]:
    """Divide ``total`` equally, no share above its cap; energy beyond all caps is left out."""
    return split(total, [1] * len(caps), caps)


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
        self._places = _places(microgrid)
        # By index into the places: a source supplies the places behind it; all other places use energy themselves.
        self._users = [i for i, place in enumerate(self._places) if place.incoming is not None]
        self._sources = {
            i: _behind(place.outgoing, self._places)
            for i, place in enumerate(self._places)
            if place.outgoing is not None and place.outgoing.function in _SOURCES
        }
        self._loads = Loads(tuple(self._consumer(self._places[i]) for i in self._users))

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
    ) -> Step:
        """Return the result of the slot that starts at ``slot_start``.

        Args:
            levels: Level of each battery at the start of the slot, by its meter's id.
            slot_start: Start of the slot, UTC epoch seconds.
            commanded: Desired states in force, by meter id; absent meters have none.

        Raises:
            ValueError: A level is missing, negative or above its battery's capacity.
        """
        flows = self._own(levels, slot_start, commanded)
        _share(flows, commanded)
        connected = not any(commanded.get(m.id, _NOTHING).isolated for m in self._boundary.values())
        if not connected:
            self._ration(flows)
        return self._report(flows)

    def _own(
        self,
        levels: Mapping[MeterId, MilliwattHours],
        time: EpochSeconds,
        commanded: Mapping[MeterId, Commanded],
    ) -> list[_Flow]:
        """Meet the loads from each place's own sun and battery, then from the source that the place is behind."""
        flows = []
        for place in self._places:
            told = [commanded[meter.id] for meter in place.meters if meter.id in commanded]
            isolated = any(command.isolated for command in told)
            flows.append(_Flow(place=place, isolated=isolated, load=0, level=_level(place, levels)))
        loads = self._loads.at(time, self._weather.temperature_c(time))
        for i, load in zip(self._users, loads, strict=True):
            flows[i].load = self._adjusted(flows[i].place, load, time, commanded)
        sun = self._weather.solar(time)
        for i in self._users:
            _balance(flows[i], sun, flows[i].load)
        for i, behind in self._sources.items():
            flow = flows[i]
            asked = 0 if flow.isolated else min(sum(flows[k].demand for k in behind), flow.place.service)
            _balance(flow, sun, asked)
            # Demand that the source can't meet stays with the places behind it, and is met from the whole loop.
            flow.pushed, flow.demand = asked - flow.demand, 0
        return flows

    def _adjusted(
        self, place: _Place, load: MilliwattHours, time: EpochSeconds, commanded: Mapping[MeterId, Commanded]
    ) -> MilliwattHours:
        """Return a place's load after the changes by the scenario and by the command to reduce."""
        if self._demand is not None and place.incoming is not None:
            load = load * self._demand(place.incoming, time) // 100
        if any(commanded[meter.id].reducing for meter in place.meters if meter.id in commanded):
            load = load * REDUCED_PERCENT // 100
        return load

    def _ration(self, flows: list[_Flow]) -> None:
        """Without the town, divide the surplus equally among the places with demand; curtail or shed the rest (C5)."""
        asked = [flow.demand for flow in flows]
        for i, behind in self._sources.items():
            for k, part in zip(behind, water_fill(flows[i].pushed, [asked[k] for k in behind]), strict=True):
                asked[k] -= part
        met = water_fill(sum(flow.surplus for flow in flows), asked)
        used = water_fill(sum(met), [flow.surplus for flow in flows])
        for flow, short, kept in zip(flows, (a - m for a, m in zip(asked, met, strict=True)), used, strict=True):
            flow.demand -= short
            flow.unserved += short
            flow.generation -= flow.surplus - kept
            flow.surplus = kept

    def _report(self, flows: list[_Flow]) -> Step:
        """Return the levels, readings and totals of the slot."""
        levels, readings, shared = {}, {}, {}
        for flow in flows:
            outgoing, incoming = flow.place.outgoing, flow.place.incoming
            if outgoing is not None:
                levels[outgoing.id] = flow.level
                readings[outgoing.id] = {
                    RecordType.GENERATION: flow.generation,
                    RecordType.STORED: flow.level,
                    RecordType.THROUGH: flow.surplus + flow.pushed + flow.given,
                }
                if flow.given or flow.received:
                    shared[outgoing.id] = flow.given - flow.received
            if incoming is not None:
                readings[incoming.id] = {RecordType.THROUGH: flow.demand + flow.received}
        # Shared energy stays inside the microgrid: only sun and loads count at the boundary (C4).
        net = sum(flow.demand - flow.pushed - flow.surplus for flow in flows)
        for direction, meter in self._boundary.items():
            readings[meter.id] = {RecordType.THROUGH: max(net if direction is Direction.INCOMING else -net, 0)}
        users = [flows[i] for i in self._users]
        return Step(
            levels=levels,
            readings=readings,
            shared=shared,
            served={flow.place.location: flow.load - flow.unserved for flow in users},
            unserved={flow.place.location: flow.unserved for flow in users if flow.unserved},
        )

    def _consumer(self, place: _Place) -> Consumer:
        assert place.incoming is not None
        return Consumer(
            seed=self._table.seed,
            place=f"{self._microgrid.id}/{place.location}",
            function=place.incoming.function,
            average_w=average_w(self._table, place.incoming.function),
            timezone=self._table.timezone,
        )


_NOTHING = Commanded()
_NO_BATTERY = Battery(capacity=0, minimum_percent=0)


def _places(microgrid: Microgrid) -> list[_Place]:
    """Return the places of a microgrid in the order of their first meters."""
    meters: dict[str, dict[Direction, Meter]] = {}
    for meter in microgrid.meters:
        if meter.emulated and meter.function is not Function.BOUNDARY:
            meters.setdefault(meter.location, {})[meter.direction] = meter
    return [_place(location, pair) for location, pair in meters.items()]


def _place(location: str, pair: Mapping[Direction, Meter]) -> _Place:
    outgoing = pair.get(Direction.OUTGOING)
    battery = (outgoing.battery if outgoing is not None else None) or _NO_BATTERY
    return _Place(
        location=location,
        outgoing=outgoing,
        incoming=pair.get(Direction.INCOMING),
        battery=battery,
        # Rounded up: a battery at its minimum is never a fraction below it, and 8 hours of sun fill a battery.
        minimum=-(-battery.capacity * battery.minimum_percent // 100),
        full_sun=-(-battery.capacity // (FULL_SUN_HOURS * _SLOTS_PER_HOUR)),
        power=battery.capacity // (POWER_HOURS * _SLOTS_PER_HOUR),
        service=VOLTS * max(meter.service_amps for meter in pair.values()) * 1000 // _SLOTS_PER_HOUR,
    )


def _behind(source: Meter, places: Sequence[_Place]) -> list[int]:
    """Return the places behind a source: a building's own apartments; for the farm, all places without a battery."""
    return [
        i
        for i, place in enumerate(places)
        if place.outgoing is None
        and (source.function is Function.SOLAR_FARM or place.location.startswith(f"{source.location} "))
    ]


def _battery_id(place: _Place) -> MeterId:
    assert place.outgoing is not None
    return place.outgoing.id


def _level(place: _Place, levels: Mapping[MeterId, MilliwattHours]) -> MilliwattHours:
    """Return the level of a place's battery; 0 without a battery."""
    if place.outgoing is None:
        return 0
    level = levels.get(place.outgoing.id, -1)
    if not 0 <= level <= place.battery.capacity:
        raise ValueError(f"battery of meter {place.outgoing.id}: level {level} is not in 0..{place.battery.capacity}")
    return level


def _balance(flow: _Flow, sun: float, load: MilliwattHours) -> None:
    """Meet a load from the sun, then from the battery; the rest is demand, and sun left after charging is surplus."""
    place = flow.place
    flow.generation = int(place.full_sun * sun)
    direct = min(load, flow.generation)
    flow.drawn = min(load - direct, flow.level, place.power)
    flow.charged = min(flow.generation - direct, place.battery.capacity - flow.level, place.power)
    flow.level += flow.charged - flow.drawn
    flow.demand = load - direct - flow.drawn
    flow.surplus = flow.generation - direct - flow.charged
    if flow.isolated:
        flow.unserved, flow.demand = flow.demand, 0
        flow.generation, flow.surplus = flow.generation - flow.surplus, 0


def _share(flows: Sequence[_Flow], commanded: Mapping[MeterId, Commanded]) -> None:
    """Charge batteries up to their minimum from the batteries with the command to share, and no further (M8, C2)."""
    members = [flow for flow in flows if flow.place.outgoing is not None and not flow.isolated]
    weights, gives, takes = [], [], []
    for flow in members:
        place = flow.place
        command = commanded.get(_battery_id(place), _NOTHING)
        weights.append(command.weight if command.sharing else 0)
        headroom = place.service - flow.pushed - flow.surplus
        gives.append(max(min(flow.level - place.minimum, place.power - flow.drawn, headroom), 0))
        headroom = place.service - flow.demand
        takes.append(max(min(place.minimum - flow.level, place.power - flow.charged, headroom), 0))
    able = sum(give for give, weight in zip(gives, weights, strict=True) if weight > 0)
    total = min(able, sum(takes))
    given, received = split(total, weights, gives), water_fill(total, takes)
    for flow, out, into in zip(members, given, received, strict=True):
        flow.given, flow.received = out, into
        flow.level += into - out
