"""How the energy shared inside a microgrid is divided among its members: conventions by name (C4).

In each slot the microgrid shares the lesser of what its members sent and what they took. The rest of what was sent is
exported to the town, the rest of what was taken is imported from it. Which member's energy was shared is a convention:
on one loop no meter can measure it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from commonwatt.settlement.splits import Array, in_proportion, row_sums


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
