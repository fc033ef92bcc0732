"""Strategies of sharing by name: pure functions of arrays, for one microgrid or a whole town (docs/control.md)."""

from collections.abc import Callable, Mapping

from commonwatt.energy.strategies import aces, rangers, spec
from commonwatt.energy.strategies.batteries import Batteries, Plan

Strategy = Callable[[Batteries], Plan]  # returns the plan for each row; without a memory, and without a limit of power
# By the name in the gateway's setting ``sharing``.
STRATEGIES: Mapping[str, Strategy] = {"spec": spec.plan, "aces": aces.plan, "rangers": rangers.plan}
# The same in a microgrid that decides alone (P2), where that is a plan of its own.
ALONE: Mapping[str, Strategy] = {"rangers": rangers.plan_alone}
# Strategies under which a donor depends on the surpluses of others, so that a decision needs every level.
COMPARING = frozenset({"rangers"})


def strategy_of(name: str, *, alone: bool) -> Strategy:
    """Return a strategy by its name, for a microgrid that the utility reaches, or that decides alone."""
    return ALONE.get(name, STRATEGIES[name]) if alone else STRATEGIES[name]
