"""The energy of one microgrid in one slot: sun, loads, batteries, the loop between them, the town (T1-T7, M8, C2-C5).

A pure function of its arguments; battery levels are its only state. Energy is integer milliwatt-hours and is conserved
exactly: per place generation + what left the battery + intake = load served + what was sent out, and per loop what the
places and the town send in = what the places and the town take out. Stated loss inside the microgrid: none.

A house serves itself from its sun, then its battery, then the loop. A building and the farm serve those behind them
the same way, through the loop. Surplus charges the own battery, then goes to places that need it, then to the town.
Sharing comes on top (M8): only between batteries, only on command, only down to and up to the batteries' minima.
Meters of other makers are outside: they are not measured here, and take and give nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from commonwatt.device.desired_states import Commanded
from commonwatt.model.records import RecordType
from commonwatt.model.units import SLOT_S, VOLTS, EpochSeconds, MeterId, MilliwattHours
from commonwatt.town.town import Battery, Direction, Function, Meter, Microgrid, Town, average_w
from meter_sim.load import Consumer, Loads
from meter_sim.weather import Weather, chance, seed_of

FULL_SUN_HOURS = 8
"""Hours of full sun that fill a battery from empty (T1)."""

POWER_HOURS = 2
"""Hours in which a battery can be charged or discharged at full power."""

REDUCED_PERCENT = 80
"""What a place told to reduce still uses of its load."""

_SLOTS_PER_HOUR = 3600 // SLOT_S
_SOURCES = (Function.BUILDING, Function.SOLAR_FARM)

DemandPercent = Callable[[Meter, EpochSeconds], int]
"""A scenario's demand of the place behind a meter, as a percentage of its ordinary load in a slot."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one slot did; energies in milliwatt-hours.

    Attributes:
        levels: Level of each battery at the end of the slot, by the id of the meter that has it.
        readings: Of each emulated meter, by record type.
        shared: What sharing moved, by the same ids: positive given, negative received; batteries that took no part are
            absent.
        served: Load met, by location.
        unserved: Load shed, by location; only locations that went short.
    """

    levels: dict[MeterId, MilliwattHours]
    readings: dict[MeterId, dict[RecordType, MilliwattHours]]
    shared: dict[MeterId, MilliwattHours]
    served: dict[str, MilliwattHours]
    unserved: dict[str, MilliwattHours]


@dataclass(frozen=True, kw_only=True)
class _Place:
    """A place: what it is made of, and its limits in milliwatt-hours per slot.

    Attributes:
        location: Its name.
        outgoing: The meter with its battery and solar.
        incoming: The meter of what it takes from the loop.
        battery: Its battery.
        minimum: Level below which its battery does not share, and up to which it receives.
        full_sun: Generation in full sun.
        power: What its battery can take or give.
        service: What its service can carry.
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
    """Out of its battery for its own load, or for those behind it."""
    charged: MilliwattHours = 0
    """Into its battery from its own sun."""
    demand: MilliwattHours = 0
    """Asked of the loop."""
    surplus: MilliwattHours = 0
    """Sun left over for the loop."""
    pushed: MilliwattHours = 0
    """Sent into the loop for those behind it (building, farm)."""
    unserved: MilliwattHours = 0
    given: MilliwattHours = 0
    received: MilliwattHours = 0


def split(total: MilliwattHours, weights: Sequence[int], caps: Sequence[MilliwattHours]) -> list[MilliwattHours]:
    """Divide ``total`` in proportion to the weights, no share above the cap; what doesn't fit is left out.

    The odd milliwatt-hours go to the largest remainders, among equals to the first.
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
    """Divide ``total`` equally, no share above the cap; what doesn't fit is left out."""
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
        # By index into the places: a source serves those behind it, all others use energy themselves.
        self._users = [i for i, place in enumerate(self._places) if place.incoming is not None]
        self._sources = {
            i: _behind(place.outgoing, self._places)
            for i, place in enumerate(self._places)
            if place.outgoing is not None and place.outgoing.function in _SOURCES
        }
        self._loads = Loads(tuple(self._consumer(self._places[i]) for i in self._users))

    def initial_levels(self, time: EpochSeconds) -> dict[MeterId, MilliwattHours]:
        """Return levels to start from: 75 % on average, in a residential microgrid one home near 25 % (N1)."""
        places = [place for place in self._places if place.outgoing is not None]
        key = (self._table.seed, self._microgrid.id, "level", time // SLOT_S)
        # The home that is low is one whose minimum is above 25 %, so that it has something to receive.
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
        """Return what the slot starting at ``slot_start`` does.

        Args:
            levels: Level of each battery at its start, by the id of the meter that has it.
            slot_start: UTC epoch seconds.
            commanded: By meter id; absent meters have no desired state.

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
        """Let every place meet its own load, and every source that of the places behind it, as far as they can."""
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
            # What it can't push, those behind it ask of the whole loop: the demand stays with them.
            flow.pushed, flow.demand = asked - flow.demand, 0
        return flows

    def _adjusted(
        self, place: _Place, load: MilliwattHours, time: EpochSeconds, commanded: Mapping[MeterId, Commanded]
    ) -> MilliwattHours:
        """Return a place's load as the scenario and the command to reduce change it."""
        if self._demand is not None and place.incoming is not None:
            load = load * self._demand(place.incoming, time) // 100
        if any(commanded[meter.id].reducing for meter in place.meters if meter.id in commanded):
            load = load * REDUCED_PERCENT // 100
        return load

    def _ration(self, flows: list[_Flow]) -> None:
        """Without the town, give what there is to the places that ask, equally, and curtail or shed the rest (C5)."""
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
        """Read the meters."""
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
        # What sharing moves begins and ends inside, so only sun and loads are left for the town (C4).
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
        if meter.function not in (Function.BOUNDARY, Function.FOREIGN):
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
        # Rounded up, so that a battery at its minimum is never a fraction below it, and 8 hours of sun do fill it.
        minimum=-(-battery.capacity * battery.minimum_percent // 100),
        full_sun=-(-battery.capacity // (FULL_SUN_HOURS * _SLOTS_PER_HOUR)),
        power=battery.capacity // (POWER_HOURS * _SLOTS_PER_HOUR),
        service=VOLTS * max(meter.service_amps for meter in pair.values()) * 1000 // _SLOTS_PER_HOUR,
    )


def _behind(source: Meter, places: Sequence[_Place]) -> list[int]:
    """Return the places that a source serves: a building its own apartments, the farm all that have no battery."""
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
    """Return the level of a place's battery, 0 where there is none."""
    if place.outgoing is None:
        return 0
    level = levels.get(place.outgoing.id, -1)
    if not 0 <= level <= place.battery.capacity:
        raise ValueError(f"battery of meter {place.outgoing.id}: level {level} is not in 0..{place.battery.capacity}")
    return level


def _balance(flow: _Flow, sun: float, load: MilliwattHours) -> None:
    """Meet a load from the sun, then from the battery; leave the rest as demand, or as surplus after charging."""
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
    """Bring batteries below their minimum up to it from those told to share, and no further (M8, C2)."""
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
