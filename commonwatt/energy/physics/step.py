"""The energy within microgrids in one step: sun, loads, batteries, sharing, and what limits leave over (T1-T7, M8, C2).

All energies are integer milliwatt-hours and are conserved exactly. Place: generation + intake = load served + output +
net charge of its battery. A battery has one net flow in a step, measured outside it: its level rises by a net charge
less the stated loss, and falls by a net discharge. Loop: energy out of places and town = energy into places and town.

A house uses its sun first, then its battery, then the loop. A building and the farm supply the places behind them in
the same order, through the loop. Surplus charges the own battery, then supplies other places, then the town; what the
town can't take charges any battery of the microgrid that has room. Sharing is additional (M8): between batteries, by
command, down to the donors' minima and up to the receivers' minima.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from commonwatt.energy.physics.boundary import Cause, Exchange
from commonwatt.energy.physics.places import Places
from commonwatt.settlement.splits import Array, Flags, fill, pro_rata, row_sums

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
class Flows:
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


def within(places: Places, level: Array, inputs: Inputs) -> Flows:
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


def _own(places: Places, level: Array, load: Array, inputs: Inputs) -> tuple[Flows, tuple[Array, Array]]:
    """Meet loads from each place's own sun and battery; also return the power left to discharge and to charge."""
    asked = _asked(places, load, inputs.isolated) if places.sources else load
    direct = np.minimum(asked, inputs.generation)
    demand, surplus = asked - direct, inputs.generation - direct
    drawn = np.minimum(np.minimum(demand, level), places.power)
    charged = np.minimum(np.minimum(surplus, _charge_for(places.capacity - level, places.loss_permille)), places.power)
    demand -= drawn
    surplus -= charged
    rows, nothing = places.shape[0], np.zeros(places.shape, dtype=np.int64)
    flows = Flows(
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


def _isolate(flows: Flows, isolated: Flags) -> None:
    """Leave isolated places without what they would take from the loop or send into it."""
    short, spilled = flows.demand * isolated, flows.surplus * isolated
    flows.demand, flows.surplus = flows.demand - short, flows.surplus - spilled
    flows.unserved, flows.served = flows.unserved + short, flows.served - short
    flows.curtailed, flows.generation = flows.curtailed + spilled, flows.generation - spilled
    flows.isolated_short, flows.isolated_spilled = row_sums(short), row_sums(spilled)


def _share(
    places: Places, level: Array, flows: Flows, weights: Array, power_left: tuple[Array, Array], isolated: Flags | None
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


def limit(places: Places, flows: Flows, allowed: Exchange, isolated: Flags | None) -> None:
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


def _absorb(places: Places, flows: Flows, allowed: Exchange, rows: NDArray[np.intp], isolated: Flags | None) -> None:
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


def _ration(places: Places, flows: Flows, allowed: Exchange, rows: NDArray[np.intp]) -> None:
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
