"""A closed loop: a strategy decides every slot, and a microgrid's batteries obey as in the emulator's physics."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from commonwatt.energy.strategies import STRATEGIES
from commonwatt.energy.strategies.batteries import LEAST_S, Batteries, Energies
from commonwatt.model.units import SLOT_S
from harness.strategies.reference import divide

LEAST_SLOTS = LEAST_S // SLOT_S  # slots for which a battery shares at least
FULL_POWER_SLOTS = 480  # slots in which full power charges or discharges a battery: two hours


def follow(strategy: str, batteries: Batteries, drawn: Sequence[Energies]) -> Iterator[Batteries]:
    """Return the batteries of one microgrid after each slot, in which loads draw ``drawn`` from them."""
    slots = np.zeros_like(batteries.level)
    for draw in drawn:
        level = np.where(batteries.usable, np.maximum(batteries.level - draw, 0), batteries.level)
        plan = STRATEGIES[strategy](replace(batteries, recent=slots < LEAST_SLOTS))
        slots = np.where(plan.donors, slots + 1, 0)
        power = batteries.capacity // FULL_POWER_SLOTS + 1
        measured = replace(batteries, level=level)
        gives = np.where(plan.donors & measured.usable, np.minimum(measured.surplus, power), 0)[0].tolist()
        takes = np.minimum(measured.deficit, power)[0].tolist()
        total = min(sum(gives), sum(takes))
        given = divide(total, plan.weights[0].tolist(), gives)
        received = divide(total, [1] * len(takes), takes)
        batteries = replace(batteries, level=level + np.array([received]) - np.array([given]), sharing=plan.donors)
        yield batteries
