"""Policies by name: which strategy shares, which rule buys and rations, and whether the utility has places reduce."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from commonwatt.energy.controllers import Rules
from commonwatt.energy.strategies import STRATEGIES
from utility.supply.buying.planner import Planner
from utility.supply.buying.rules import AcesRule, RangersRule, SpecRule
from utility.supply.buying.situation import Policy as Buying
from utility.supply.rationing import RATIONING, Rationing


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What controls the town."""

    words: str  # what it is, in a line
    rules: Rules  # what the controllers do
    # Makes the rule that buys power; ``None``: the plant buys what is needed at each moment.
    buying: Callable[[], Buying] | None = None
    rationing: Rationing | None = None  # how supply is rationed; ``None``: it is not


_RULES = Rules(sharing=STRATEGIES["spec"], reduces=True, sheds=True)
_SPEC = Policy(words="the town's specification", rules=_RULES, buying=SpecRule, rationing=RATIONING["rangers"])

POLICIES: Mapping[str, Policy] = MappingProxyType(
    {
        "none": Policy(words="no control: no sharing, no purchase ahead, no rationing", rules=Rules()),
        "no-sharing": replace(_SPEC, words="as spec, but without sharing", rules=replace(_RULES, sharing=None)),
        "spec": _SPEC,
        "aces": replace(
            _SPEC,
            words="the ACES report",
            rules=replace(_RULES, sharing=STRATEGIES["aces"], reduces_all_islands=True),
            buying=AcesRule,
            rationing=RATIONING["aces"],
        ),
        "rangers": replace(
            _SPEC,
            words="the Power RAnGeRS report",
            rules=replace(_RULES, sharing=STRATEGIES["rangers"]),
            buying=RangersRule,
        ),
        "planner": replace(_SPEC, words="spec, and purchases planned over a forecast", buying=Planner),
    }
)
