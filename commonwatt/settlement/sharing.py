"""The places that gave and received by sharing, from the readings of a microgrid's batteries (C2, C4).

The utility records sharing per microgrid and quarter-hour. No meter measures it: an outgoing meter reads surplus and
shared energy together, and buildings and the farm have no incoming meter.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from commonwatt.settlement.splits import in_proportion

Energies: TypeAlias = NDArray[np.int64]  # milliwatt-hours, (slots, batteries)


@dataclass(frozen=True, kw_only=True, eq=False)
class BatteryReadings:
    """The readings of a microgrid's batteries in some slots, (slots, batteries), milliwatt-hours."""

    sharing: NDArray[np.bool_]  # whether the battery has the command to share in the slot
    metered_in: NDArray[np.bool_]  # whether the battery's place has an incoming meter, (batteries)
    outgoing: Energies  # through the outgoing meter
    incoming: Energies  # through the incoming meter; 0 without one
    generation: Energies  # generation
    capacity: NDArray[np.int64]  # capacity of the battery, (batteries)
    before: Energies  # level at the start of the slot
    after: Energies  # level at the end of the slot
    # What the places behind a building or the farm took in the slot, through their incoming meters; else 0.
    behind: Energies
    loss_permille: int = 0  # part of a battery's charge that is lost, thousandths


@dataclass(frozen=True, kw_only=True, eq=False)
class Shared:
    """What each battery gave and received by sharing, (slots, batteries), milliwatt-hours; equal sums in each slot."""

    given: Energies
    received: Energies


def shared(readings: BatteryReadings) -> Shared:
    """Return who gave and received, as far as readings tell.

    Given: what the place of a battery with the command to share sent out, for others than the places behind it. A place
    with surplus sun has a full battery, so that no more was given than the battery is short of full afterwards.
    Received: what a place took in and stored beyond its own sun. The lesser sum of both is divided in proportion.
    """
    sent = np.maximum(readings.outgoing - readings.behind, 0)
    given = np.minimum(sent, np.maximum(readings.capacity - readings.after, 0)) * readings.sharing
    stored = np.where(
        readings.metered_in,
        # Load is met from the loop only when the battery is empty, so that what was received is still in it.
        np.minimum(readings.incoming, readings.after),
        np.maximum(
            intake(readings.outgoing, readings.generation, readings.before, readings.after, readings.loss_permille), 0
        ),
    )
    stored = stored * (given == 0)
    total = np.minimum(given.sum(axis=1), stored.sum(axis=1))
    return Shared(given=in_proportion(total, given), received=in_proportion(total, stored))


def net_charge(change: Energies, loss_permille: int) -> Energies:
    """Return the net charge that changes a battery's level by ``change``, before its loss; negative: discharge.

    Of the charges that raise the level by as much after the loss, rounded down, it is the least.
    """
    if not loss_permille:
        return change
    return np.where(change > 0, (change - 1) * 1000 // (1000 - loss_permille) + 1, change)


def intake(outgoing: Energies, generation: Energies, before: Energies, after: Energies, loss_permille: int) -> Energies:
    """Return what the place of a battery without an incoming meter took in; negative only by rounded readings.

    It is what it sent out and what the battery was charged with, less its own sun.
    """
    return net_charge(after - before, loss_permille) + outgoing - generation
