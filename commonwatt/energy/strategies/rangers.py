"""Strategy ``rangers``, of the Power RAnGeRS report (P4): the largest surplus gives first, down to its minimum."""

import numpy as np

from commonwatt.energy.strategies.batteries import MAX_WEIGHT, Batteries, Energies, Flags, Plan
from commonwatt.settlement.splits import fill, pro_rata

_AHEAD = 2**60  # more than any surplus


def plan(batteries: Batteries) -> Plan:
    """Return the plan: of the batteries above their minimum, only those give that are needed.

    Batteries that already share come first, then the largest surplus in milliwatt-hours; of equal surpluses, the first
    place. Donors' weights follow the planned energies, so that all donors reach their planned levels together; members'
    own weights do not count. Help starts and ends as under ``spec``. A battery that shares goes on until then, or down
    to its minimum.
    """
    able = batteries.able & batteries.acting(batteries.low)[:, None] | batteries.staying
    surplus = np.where(able, batteries.surplus, 0)
    need = batteries.deficit.sum(axis=1)
    donors = able & (batteries.held | (_given_before(surplus, batteries.held & able) < need[:, None]))
    surplus = np.where(donors, surplus, 0)
    before = _given_before(surplus, np.zeros_like(donors))
    giving = np.clip(need[:, None] - before, 0, surplus)
    weights = 1 + giving * (MAX_WEIGHT - 1) // np.maximum(giving.max(axis=1, initial=0), 1)[:, None]
    return Plan(np.where(donors, weights, 0), giving, fill(giving.sum(axis=1), batteries.deficit))


def plan_alone(batteries: Batteries) -> Plan:
    """Return the plan of a microgrid that decides alone (P2): every battery with a surplus is ready to share.

    Energy flows as soon as a battery falls below its minimum, before its level is reported. Weights follow the
    surpluses; the largest one gives most.
    """
    surplus = np.where(batteries.able, batteries.surplus, 0)
    weights = 1 + surplus * (MAX_WEIGHT - 1) // np.maximum(surplus.max(axis=1, initial=0), 1)[:, None]
    weights = np.where(batteries.able, weights, 0)
    total = np.minimum(surplus.sum(axis=1), batteries.deficit.sum(axis=1))
    return Plan(weights, pro_rata(total, weights, surplus), fill(total, batteries.deficit))


def _given_before(surplus: Energies, first: Flags) -> Energies:
    """Return the sum of the surpluses that come before each: those of ``first``, then larger ones, then places."""
    order = np.argsort(-(surplus + np.where(first, _AHEAD, 0)), axis=1, kind="stable")
    ordered = np.take_along_axis(surplus, order, axis=1)
    result = np.empty_like(surplus)
    np.put_along_axis(result, order, np.cumsum(ordered, axis=1) - ordered, axis=1)
    return result
