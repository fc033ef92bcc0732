"""The energy of microgrids and of a whole town in one step: sun, loads, batteries, sharing, limits.

All energies are integer milliwatt-hours and are conserved exactly. Place: generation + intake = load served + output +
net charge of its battery. A battery has one net flow in a step, measured outside it: its level rises by a net charge
less the stated loss, and falls by a net discharge. Loop: energy out of places and town = energy into places and town.

A house uses its sun first, then its battery, then the loop. A building and the farm supply the places behind them in
the same order, through the loop. Surplus charges the own battery, then supplies other places, then the town; what the
town can't take charges any battery of the microgrid that has room. Sharing is additional (M8): between batteries, by
command, down to the donors' minima and up to the receivers' minima.

The boundary of microgrids: voltage and switch, import limit, feeder, and what these limits leave over (C5, A8).
A microgrid is off the grid while its switch is open or the town's side has no voltage; then nothing passes, in either
direction. An import limit never limits the export.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from commonwatt.energy.places import Places
from commonwatt.energy.plant import NO_ORDER, Need, Plant, PlantOrder, PlantStep, run_plant
from commonwatt.energy.splits import Array, Flags, fill, pro_rata, row_sums
from commonwatt.model.control import SupplyState
from commonwatt.model.units import MilliwattHours

NO_LIMIT_W = 2**40  # an import limit above every feeder, watts: no limit


class Cause(IntEnum):
    """Why load was not served, or sun not used."""

    PLACE = 0  # the place is isolated by command
    ISLAND = 1  # the microgrid is off the grid
    LIMIT = 2  # the microgrid's import limit
    FEEDER = 3  # the microgrid's feeder is at its limit
    TOWN = 4  # the town had no more energy, or no more use for it


@dataclass(frozen=True, kw_only=True, eq=False)
class Boundary:
    """The state of each microgrid's boundary in one step, (M,)."""

    voltage: Flags  # whether the town's side has voltage
    closed: Flags  # whether the switch is closed
    import_limit_w: Array  # limit of the import, watts; ``NO_LIMIT_W``: none

    @classmethod
    def open_to_town(cls, microgrids: int) -> "Boundary":
        """Return boundaries that limit nothing."""
        yes = np.ones(microgrids, dtype=np.bool_)
        return cls(voltage=yes, closed=yes, import_limit_w=np.full(microgrids, NO_LIMIT_W))


@dataclass(frozen=True, kw_only=True, eq=False)
class Exchange:
    """What each microgrid exchanges with the town in one step, milliwatt-hours, (M,)."""

    imported: Array  # energy from the town
    exported: Array  # energy to the town
    short: Array  # load not served, by cause, (causes, M)
    spilled: Array  # sun not used, by cause, (causes, M)

    def reduced(self, imported: Array, exported: Array) -> "Exchange":
        """Return the exchange after the town has given or taken less."""
        short, spilled = self.short.copy(), self.spilled.copy()
        short[Cause.TOWN] += self.imported - imported
        spilled[Cause.TOWN] += self.exported - exported
        return Exchange(imported=imported, exported=exported, short=short, spilled=spilled)


def exchange(places: Places, boundary: Boundary, net: Array) -> Exchange:
    """Return what the boundaries let pass of each microgrid's net demand (negative: surplus)."""
    wanted, offered = np.maximum(net, 0), np.maximum(-net, 0)
    short, spilled = (np.zeros((len(Cause), len(net)), dtype=np.int64) for _ in range(2))
    on_grid = np.asarray(boundary.voltage & boundary.closed)
    limit = boundary.import_limit_w * (1000 * places.step_s) // 3600
    imported = np.minimum(np.minimum(wanted, places.feeder), limit) * on_grid
    exported = np.minimum(offered, places.feeder) * on_grid
    if (rows := np.flatnonzero(wanted != imported)).size:
        by = np.where(limit < places.feeder, Cause.LIMIT, Cause.FEEDER)[rows]
        short[np.where(on_grid[rows], by, Cause.ISLAND), rows] = (wanted - imported)[rows]
    if (rows := np.flatnonzero(offered != exported)).size:
        spilled[np.where(on_grid[rows], Cause.FEEDER, Cause.ISLAND), rows] = (offered - exported)[rows]
    return Exchange(imported=imported, exported=exported, short=short, spilled=spilled)


REDUCED_PERCENT = 80  # load of a place with the command to reduce, as a percentage of its ordinary load


@dataclass(frozen=True, kw_only=True, eq=False)
class Inputs:
    """What a step of microgrids of one layout depends on besides levels and boundaries, (M, P)."""

    load: Array  # ordinary load of each place, milliwatt-hours; 0 for sources
    generation: Array  # what its panels give, milliwatt-hours
    # Its battery's share of the discharge relative to other donors, 0: it does not share; ``None``: no battery shares.
    weights: Array | None = None
    reducing: Flags | None = None  # whether it has the command to reduce; ``None``: no place has
    isolated: Flags | None = None  # whether it is disconnected from the loop; ``None``: no place is


@dataclass(slots=True, kw_only=True, eq=False)
class StepFlows:
    """The energy of each place in one step, milliwatt-hours, (M, P)."""

    generation: Array  # sun used or exported
    served: Array  # load met; 0 for sources
    unserved: Array  # load not met
    curtailed: Array  # sun that nobody could use
    demand: Array  # load met from the loop
    surplus: Array  # sun sent into the loop
    pushed: Array  # energy sent into the loop for the places behind a source
    given: Array  # energy shared with other batteries
    received: Array  # energy that charged its battery from the loop
    absorbed: Array  # the part of it that is neighbours' sun; the rest comes from other batteries
    net: Array  # net charge of the battery, outside it; negative: discharge
    level: Array  # its level at the end of the step
    lost: Array  # loss of the charge
    isolated_short: Array  # load that isolated places did not meet, of each microgrid, (M,)
    isolated_spilled: Array  # sun that isolated places could not use, of each microgrid, (M,)

    @property
    def net_demand(self) -> Array:
        """What each microgrid takes from the town, (M,); negative: what it gives."""
        return row_sums(self.demand + self.absorbed - self.pushed - self.surplus)


def within(places: Places, level: Array, inputs: Inputs) -> StepFlows:
    """Return the flows of a step as if the town gave and took everything; ``level``: of each battery at its start."""
    load = inputs.load
    if inputs.reducing is not None:
        load = np.where(inputs.reducing, load * REDUCED_PERCENT // 100, load)
    flows, power_left = _own(places, level, load, inputs)
    if inputs.weights is not None:
        _share(places, level, flows, inputs.weights, power_left, inputs.isolated)
    flows.lost = np.maximum(flows.net, 0) * places.loss_permille // 1000
    flows.level = level + flows.net - flows.lost
    return flows


def _own(places: Places, level: Array, load: Array, inputs: Inputs) -> tuple[StepFlows, tuple[Array, Array]]:
    """Meet loads from each place's own sun and battery; also return the power left to discharge and to charge."""
    asked = _asked(places, load, inputs.isolated) if places.sources else load
    direct = np.minimum(asked, inputs.generation)
    demand, surplus = asked - direct, inputs.generation - direct
    drawn = np.minimum(np.minimum(demand, level), places.power)
    charged = np.minimum(np.minimum(surplus, _charge_for(places.capacity - level, places.loss_permille)), places.power)
    demand -= drawn
    surplus -= charged
    rows, nothing = places.shape[0], np.zeros(places.shape, dtype=np.int64)
    flows = StepFlows(
        generation=inputs.generation,
        served=load,
        unserved=nothing,
        curtailed=nothing,
        demand=demand,
        surplus=surplus,
        pushed=nothing,
        given=nothing,
        received=nothing,
        absorbed=nothing,
        net=charged - drawn,
        level=level,
        lost=nothing,
        isolated_short=np.zeros(rows, dtype=np.int64),
        isolated_spilled=np.zeros(rows, dtype=np.int64),
    )
    if places.sources:
        flows.pushed = nothing.copy()
        for source in places.sources:
            # Demand that the source can't meet stays with the places behind it, and is met from the whole loop.
            flows.pushed[:, source.column] = asked[:, source.column] - demand[:, source.column]
            demand[:, source.column] = 0
    if inputs.isolated is not None:
        _isolate(flows, inputs.isolated)
    return flows, (places.power - drawn, places.power - charged)


def _asked(places: Places, load: Array, isolated: Flags | None) -> Array:
    """Return the load that each place's sun and battery shall meet; a source's is that of the places behind it."""
    linked = load if isolated is None else load * ~isolated
    asked = load.copy()
    for source in places.sources:
        asked[:, source.column] = np.minimum(row_sums(linked[:, source.behind]), places.service[:, source.column])
        if isolated is not None:
            asked[:, source.column] *= ~isolated[:, source.column]
    return asked


def _charge_for(gain: Array, loss_permille: int) -> Array:
    """Return the least charge that raises levels by ``gain``, after its loss."""
    if not loss_permille:
        return gain
    return np.where(gain > 0, (gain - 1) * 1000 // (1000 - loss_permille) + 1, 0)


def _isolate(flows: StepFlows, isolated: Flags) -> None:
    """Leave isolated places without what they would take from the loop or send into it."""
    short, spilled = flows.demand * isolated, flows.surplus * isolated
    flows.demand, flows.surplus = flows.demand - short, flows.surplus - spilled
    flows.unserved, flows.served = flows.unserved + short, flows.served - short
    flows.curtailed, flows.generation = flows.curtailed + spilled, flows.generation - spilled
    flows.isolated_short, flows.isolated_spilled = row_sums(short), row_sums(spilled)


def _share(
    places: Places,
    level: Array,
    flows: StepFlows,
    weights: Array,
    power_left: tuple[Array, Array],
    isolated: Flags | None,
) -> None:
    """Charge batteries up to their minimum from the batteries with the command to share, and no further (M8, C2)."""
    below = places.minimum - level
    # What a battery could give without falling below its minimum; negative: what it needs to reach it.
    spare = flows.net - np.where(below > 0, _charge_for(below, places.loss_permille), below)
    gives = np.minimum(np.minimum(spare, power_left[0]), places.service - flows.pushed - flows.surplus)
    takes = np.minimum(np.minimum(-spare, power_left[1]), places.service - flows.demand)
    gives, takes = np.maximum(gives, 0) * (weights > 0), np.maximum(takes, 0)
    if isolated is not None:
        gives, takes = gives * ~isolated, takes * ~isolated
    total = np.minimum(row_sums(gives), row_sums(takes))
    rows = np.flatnonzero(total)
    if not rows.size:
        return
    flows.given, flows.received = np.zeros_like(level), np.zeros_like(level)
    flows.given[rows] = pro_rata(total[rows], weights[rows], gives[rows])
    flows.received[rows] = fill(total[rows], takes[rows])
    flows.net += flows.received - flows.given


def limit(places: Places, flows: StepFlows, allowed: Exchange, isolated: Flags | None) -> None:
    """Store sun, shed load and curtail sun equally where less passes the boundary than a microgrid needs or offers.

    Args:
        flows: Their flows, as if the town gave and took everything.
        allowed: What passes each boundary.
        isolated: Which places are disconnected from the loop; ``None``: none.
    """
    rows = np.flatnonzero(flows.net_demand < allowed.imported - allowed.exported)
    if rows.size:
        _absorb(places, flows, allowed, rows, isolated)
    rows = np.flatnonzero(flows.net_demand != allowed.imported - allowed.exported)
    if rows.size:
        _ration(places, flows, allowed, rows)
    allowed.short[Cause.PLACE] += flows.isolated_short
    allowed.spilled[Cause.PLACE] += flows.isolated_spilled


def _absorb(
    places: Places, flows: StepFlows, allowed: Exchange, rows: NDArray[np.intp], isolated: Flags | None
) -> None:
    """Charge the batteries that have room, equally, from the sun that the town can't take."""
    level, net = flows.level[rows] - flows.net[rows] + flows.lost[rows], flows.net[rows]
    full = _charge_for(places.capacity[rows] - level, places.loss_permille)
    intake = places.service[rows] - flows.demand[rows] - flows.received[rows]
    sends = (flows.surplus[rows] > 0) | (flows.given[rows] > 0)
    room = np.maximum(np.minimum(np.minimum(full, places.power[rows]) - net, intake), 0) * ~sends
    if isolated is not None:
        room = room * ~isolated[rows]
    left = allowed.imported[rows] - allowed.exported[rows] - flows.net_demand[rows]
    total = np.minimum(left, row_sums(room))
    absorbed = np.zeros_like(flows.level)
    absorbed[rows] = fill(total, room)
    flows.absorbed, flows.received = absorbed, flows.received + absorbed
    flows.level, flows.net = flows.level + flows.lost - flows.net, flows.net + absorbed
    flows.lost = np.maximum(flows.net, 0) * places.loss_permille // 1000
    flows.level = flows.level + flows.net - flows.lost
    for cause in (Cause.TOWN, Cause.FEEDER, Cause.ISLAND):
        part = np.minimum(allowed.spilled[cause, rows], total)
        allowed.spilled[cause, rows] -= part
        total = total - part


def _ration(places: Places, flows: StepFlows, allowed: Exchange, rows: NDArray[np.intp]) -> None:
    asked, surplus, pushed = flows.demand[rows], flows.surplus[rows], flows.pushed[rows]
    # What a source pushed is for the places behind it.
    for source in places.sources:
        asked[:, source.behind] -= fill(pushed[:, source.column], asked[:, source.behind])
    met = fill(row_sums(surplus) + allowed.imported[rows], asked)
    stored = row_sums(flows.absorbed[rows])
    used = fill(row_sums(met) + stored + allowed.exported[rows] - allowed.imported[rows], surplus)
    short, spilled = np.zeros_like(flows.demand), np.zeros_like(flows.demand)
    short[rows], spilled[rows] = asked - met, surplus - used
    flows.demand, flows.surplus = flows.demand - short, flows.surplus - spilled
    flows.unserved, flows.served = flows.unserved + short, flows.served - short
    flows.curtailed, flows.generation = flows.curtailed + spilled, flows.generation - spilled


PRIORITY = ("public", "apartment", "residential")
"""The kinds of microgrids in the order in which they are supplied when the town is short (U5)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MicrogridsStep:
    """The result of one step for the microgrids of one layout."""

    flows: StepFlows  # the energy of each place
    exchange: Exchange  # what the microgrids exchanged with the town, and why they went short or curtailed


def step_alone(places: Places, level: Array, inputs: Inputs, boundary: Boundary) -> MicrogridsStep:
    """Return a step of microgrids beside a town that gives and takes whatever their boundaries let pass."""
    flows = within(places, level, inputs)
    allowed = exchange(places, boundary, flows.net_demand)
    limit(places, flows, allowed, inputs.isolated)
    return MicrogridsStep(flows=flows, exchange=allowed)


@dataclass(frozen=True, kw_only=True)
class PlantInputs:
    """What a step of the plant depends on."""

    level: MilliwattHours  # level of its battery, milliwatt-hours
    order: PlantOrder = NO_ORDER  # the order to it
    supply: SupplyState = SupplyState.NORMAL  # the state of the regional supply
    alive: bool = True  # whether the regional line has voltage


def step_town(
    blocks: Sequence[Places],
    levels: Sequence[Array],
    inputs: Sequence[Inputs],
    boundaries: Sequence[Boundary],
    plant: Plant,
    told: PlantInputs,
) -> tuple[list[MicrogridsStep], PlantStep]:
    """Return one step of a town; the sequences have one element for each layout of microgrids."""
    flows = [within(*layout) for layout in zip(blocks, levels, inputs, strict=True)]
    exchanges = [
        exchange(places, boundary, flow.net_demand)
        for places, boundary, flow in zip(blocks, boundaries, flows, strict=True)
    ]
    wanted = [int(exchanged.imported.sum()) for exchanged in exchanges]
    offered = [int(exchanged.exported.sum()) for exchanged in exchanges]
    public = sum(energy for places, energy in zip(blocks, wanted, strict=True) if places.kind == "public")
    need = Need(wanted=sum(wanted), public=public, offered=sum(offered))
    result = run_plant(plant, told.level, need, told.order, told.supply, alive=told.alive)
    if result.short or result.spilled:
        exchanges = _divided(blocks, exchanges, need.wanted - result.short, need.offered - result.spilled)
    for places, flow, exchanged, given in zip(blocks, flows, exchanges, inputs, strict=True):
        limit(places, flow, exchanged, given.isolated)
    return [MicrogridsStep(flows=f, exchange=e) for f, e in zip(flows, exchanges, strict=True)], result


def _divided(
    blocks: Sequence[Places], exchanges: Sequence[Exchange], supply: MilliwattHours, use: MilliwattHours
) -> list[Exchange]:
    """Divide what the town has strictly by kind of microgrid, equally among the places of one kind; and its use."""
    imported = [np.zeros_like(exchanged.imported) for exchanged in exchanges]
    for kind in PRIORITY:
        members = [i for i, places in enumerate(blocks) if places.kind == kind]
        if not members:
            continue
        wanted = np.concatenate([exchanges[i].imported for i in members])
        users = np.concatenate([np.full(blocks[i].shape[0], blocks[i].users.sum()) for i in members])
        total = min(supply, int(wanted.sum()))
        supply -= total
        _spread(imported, members, pro_rata(np.array([total]), users[None, :], wanted[None, :])[0])
    exported = [np.zeros_like(exchanged.exported) for exchanged in exchanges]
    offered = np.concatenate([exchanged.exported for exchanged in exchanges])
    _spread(exported, range(len(blocks)), fill(np.array([use]), offered[None, :])[0])
    return [exchanged.reduced(i, e) for exchanged, i, e in zip(exchanges, imported, exported, strict=True)]


def _spread(parts: Sequence[Array], members: Sequence[int], values: Array) -> None:
    """Write the values of all members' microgrids, one after the other, into their parts."""
    at = 0
    for i in members:
        parts[i][:] = values[at : at + len(parts[i])]
        at += len(parts[i])
