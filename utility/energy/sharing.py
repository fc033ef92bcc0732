"""The places that gave and received by sharing, and conventions by which their energy is divided (C2, C4).

The utility records sharing per microgrid and quarter-hour. No meter measures it: an outgoing meter reads surplus and
shared energy together, and buildings and the farm have no incoming meter.

How the energy shared inside a microgrid is divided among its members: conventions by name (C4).
In each slot the microgrid shares the lesser of what its members sent and what they took. The rest of what was sent is
exported to the town, the rest of what was taken is imported from it. Which member's energy was shared is a convention:
on one loop no meter can measure it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from commonwatt.energy.splits import Array, in_proportion, row_sums

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
class SharedSlots:
    """What each battery gave and received by sharing, (slots, batteries), milliwatt-hours; equal sums in each slot."""

    given: Energies
    received: Energies


def shared(readings: BatteryReadings) -> SharedSlots:
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
    return SharedSlots(given=in_proportion(total, given), received=in_proportion(total, stored))


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


@dataclass(frozen=True, kw_only=True, eq=False)
class Members:
    """What the members of microgrids sent and took, a row for each microgrid and slot, milliwatt-hours."""

    sent: Array  # out of each sender's place, (rows, senders)
    taken: Array  # into each taker's place, (rows, takers)
    given: Array | None = None  # of what was sent, the part that batteries gave by sharing, (rows, senders)
    # Of what was taken, the part that batteries received by sharing, (rows, takers); a row's sum is that of ``given``,
    # and at most what it shares.
    received: Array | None = None

    @property
    def shared(self) -> Array:
        """What stays inside the microgrid, (rows)."""
        return np.minimum(row_sums(self.sent), row_sums(self.taken))


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """The members' parts of what was shared: equal sums in each row, none above what the member sent or took."""

    shared_out: Array  # given to other members, (rows, senders)
    shared_in: Array  # taken from other members, (rows, takers)


def pro_rata(members: Members) -> Split:
    """Divide in proportion to what each member sent, or took, in the slot."""
    shared = members.shared
    return Split(shared_out=_part(shared, members.sent), shared_in=_part(shared, members.taken))


def sharing_first(members: Members) -> Split:
    """Give the energy commanded by sharing to the batteries that received it, and divide the rest pro rata."""
    if members.given is None or members.received is None:
        return pro_rata(members)
    rest = members.shared - row_sums(members.given)
    return Split(
        shared_out=members.given + _part(rest, members.sent - members.given),
        shared_in=members.received + _part(rest, members.taken - members.received),
    )


CONVENTIONS: Mapping[str, Callable[[Members], Split]] = {"pro_rata": pro_rata, "sharing_first": sharing_first}
"""The conventions by name; ``pro_rata`` is the default (docs/settlement.md)."""


def _part(total: Array, weights: Array) -> Array:
    """Divide by weight; mostly the total is all or nothing, so that there is nothing to compute."""
    whole = row_sums(weights)
    parts = np.where((total == whole)[:, None], weights, 0)
    rows = np.flatnonzero((total != whole) & (total != 0))
    if rows.size:
        parts[rows] = in_proportion(total[rows], weights[rows])
    return parts
