"""One step of a whole town: its microgrids, their boundaries, and the plant between them (U5, P5)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from commonwatt.energy.physics.boundary import Boundary, Exchange, exchange
from commonwatt.energy.physics.places import Places
from commonwatt.energy.physics.plant import NO_ORDER, Need, Order, Plant, PlantStep, run_plant
from commonwatt.energy.physics.step import Flows, Inputs, limit, within
from commonwatt.model.control.supply import SupplyState
from commonwatt.model.units import MilliwattHours
from commonwatt.settlement.splits import Array, fill, pro_rata

PRIORITY = ("public", "apartment", "residential")
"""The kinds of microgrids in the order in which they are supplied when the town is short (U5)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MicrogridsStep:
    """The result of one step for the microgrids of one layout."""

    flows: Flows  # the energy of each place
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
    order: Order = NO_ORDER  # the order to it
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
    flows = [within(*each) for each in zip(blocks, levels, inputs, strict=True)]
    exchanges = [
        exchange(places, boundary, one.net_demand)
        for places, boundary, one in zip(blocks, boundaries, flows, strict=True)
    ]
    wanted = [int(one.imported.sum()) for one in exchanges]
    offered = [int(one.exported.sum()) for one in exchanges]
    public = sum(one for places, one in zip(blocks, wanted, strict=True) if places.kind == "public")
    need = Need(wanted=sum(wanted), public=public, offered=sum(offered))
    result = run_plant(plant, told.level, need, told.order, told.supply, alive=told.alive)
    if result.short or result.spilled:
        exchanges = _divided(blocks, exchanges, need.wanted - result.short, need.offered - result.spilled)
    for places, one, allowed, given in zip(blocks, flows, exchanges, inputs, strict=True):
        limit(places, one, allowed, given.isolated)
    return [MicrogridsStep(flows=f, exchange=e) for f, e in zip(flows, exchanges, strict=True)], result


def _divided(
    blocks: Sequence[Places], exchanges: Sequence[Exchange], supply: MilliwattHours, use: MilliwattHours
) -> list[Exchange]:
    """Divide what the town has strictly by kind of microgrid, equally among the places of one kind; and its use."""
    imported = [np.zeros_like(one.imported) for one in exchanges]
    for kind in PRIORITY:
        members = [i for i, places in enumerate(blocks) if places.kind == kind]
        if not members:
            continue
        wanted = np.concatenate([exchanges[i].imported for i in members])
        users = np.concatenate([np.full(blocks[i].shape[0], blocks[i].users.sum()) for i in members])
        total = min(supply, int(wanted.sum()))
        supply -= total
        _spread(imported, members, pro_rata(np.array([total]), users[None, :], wanted[None, :])[0])
    exported = [np.zeros_like(one.exported) for one in exchanges]
    offered = np.concatenate([one.exported for one in exchanges])
    _spread(exported, range(len(blocks)), fill(np.array([use]), offered[None, :])[0])
    return [one.reduced(i, e) for one, i, e in zip(exchanges, imported, exported, strict=True)]


def _spread(parts: Sequence[Array], members: Sequence[int], values: Array) -> None:
    """Write the values of all members' microgrids, one after the other, into their parts."""
    at = 0
    for i in members:
        parts[i][:] = values[at : at + len(parts[i])]
        at += len(parts[i])
