"""Strategy ``spec``, of the town's specification (C2): every battery above its minimum shares, by weight."""

import numpy as np

from commonwatt.energy.strategies.batteries import Batteries, Flags, Plan
from commonwatt.settlement.splits import fill, pro_rata, row_sums


def plan(batteries: Batteries) -> Plan:
    """Return the plan: when a battery is below its minimum and others are above, those above share.

    Help starts when a deficit is as large as the band. It ends when no battery is below its minimum.
    """
    return all_above_share(batteries, batteries.acting(batteries.low))


def all_above_share(batteries: Batteries, acting: Flags) -> Plan:
    """Return the plan by which all batteries above their minimum share in the microgrids ``acting``."""
    donors = batteries.able & acting[:, None] | batteries.staying
    weights = np.where(donors, batteries.weight, 0)
    caps = np.where(weights > 0, batteries.surplus, 0)
    total = np.minimum(row_sums(caps), row_sums(batteries.deficit))
    return Plan(weights, pro_rata(total, weights, caps), fill(total, batteries.deficit))
