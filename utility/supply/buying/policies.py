"""The policies of buying by name."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from utility.supply.buying.planner import Planner
from utility.supply.buying.rules import AcesRule, RangersRule, SpecRule
from utility.supply.buying.situation import Policy

POLICIES: Mapping[str, Callable[[], Policy]] = MappingProxyType(
    {"spec": SpecRule, "aces": AcesRule, "rangers": RangersRule, "planner": Planner}
)
"""From a name to the function that makes the policy with its defaults."""
