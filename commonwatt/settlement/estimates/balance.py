"""The balance of a microgrid: what one place took in and gave out, from the boundary and all other places.

Energy shared inside the microgrid cancels: what places take in minus what they give out is what passes the boundary.
"""

import numpy as np

from commonwatt.settlement.estimates import Energies, Flags


def net_of_missing(boundary: Energies, passes: Flags, net: Energies, known: Flags) -> tuple[Energies, Flags]:
    """Return the net intake of the one place that is not known in a slot, and whether there is exactly one, (slots).

    Args:
        boundary: Import minus export at the boundary, (slots).
        passes: Where it is known.
        net: Intake minus output of each place, (places, slots).
        known: Where it is known.
    """
    others = np.where(known, net, 0).sum(axis=0)
    return boundary - others, np.asarray(passes & ((~known).sum(axis=0) == 1))


def intake_and_output(
    net: Energies, incoming: Energies, has_incoming: Flags, outgoing: Energies, has_outgoing: Flags
) -> tuple[Energies, Energies]:
    """Return what a place took in and gave out in each slot, from its net intake and what is known of both.

    Where neither is known, the place did one of them: a battery does not charge and discharge in one slot.
    """
    taken = np.where(has_incoming, incoming, np.maximum(net + np.where(has_outgoing, outgoing, 0), 0))
    given = np.where(has_outgoing, outgoing, np.maximum(np.where(has_incoming, incoming, 0) - net, 0))
    return taken, given
