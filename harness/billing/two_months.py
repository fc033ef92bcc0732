"""A town whose accounts never change, with two settled months: October 2026, and November, which is billed."""

from dataclasses import replace

import numpy as np

from commonwatt.model.time.local_calendar import month_before
from commonwatt.settlement.settled import Quantity
from harness.billing.worlds import ZONE, World, random_world, tariff
from utility.billing.inputs import RunInputs

MONTH, KWH = "2026-11", 10**6


def world_of(seed: int = 0) -> World:
    """Return a town whose accounts never change; October and November are settled."""
    world = random_world(seed)
    registry = world.inputs.registry
    meters = {
        i: replace(m, start=None, end=None, holdings=tuple(replace(h, start=0, end=None) for h in m.holdings[:1]))
        for i, m in registry.meters.items()
    }
    both = RunInputs(
        month=MONTH,
        timezone=ZONE,
        registry=replace(registry, meters=meters, accounts={}),
        tariffs=(tariff(),),
        default="town",
    )
    october = replace(both, month=month_before(MONTH))
    shape = len(world.settled.meters), both.until - october.first
    energies = {q: np.zeros(shape, np.int64) for q in Quantity}
    energies[Quantity.IMPORTED] += KWH // 50
    settled = replace(
        world.settled,
        first=october.first,
        energies=energies,
        quality=np.full(shape, 4, np.uint8),
        provisional=np.zeros(shape, np.bool_),
        version=np.ones(shape, np.int32),
    )
    return World(inputs=both, settled=settled)


def late(world: World, quantity: Quantity, energy: int) -> int:
    """Change October's first quarter of a house's meter; return the house's account."""
    wanted = "incoming" if quantity is Quantity.IMPORTED else "outgoing"
    for row, meter in enumerate(world.settled.meters):
        one = world.inputs.registry.meters[int(meter)]
        if one.function == "house" and one.direction == wanted and one.holdings:
            world.settled.energies[quantity][row, 0] += energy
            return one.holdings[0].account
    raise AssertionError
