"""Strategy ``aces``, of the ACES report (A5): when a battery is empty, every battery above its minimum shares."""

from commonwatt.energy.strategies.batteries import Batteries, Plan
from commonwatt.energy.strategies.spec import all_above_share


def plan(batteries: Batteries) -> Plan:
    """Return the plan: help starts when a battery is empty. It ends when no battery is below its minimum."""
    return all_above_share(batteries, batteries.acting(batteries.empty))
