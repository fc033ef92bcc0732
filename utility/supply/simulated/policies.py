"""Policies by name: which strategy shares, which rule buys and rations, and whether the utility has places reduce."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from commonwatt.energy.controllers import Rules
from commonwatt.energy.strategies import STRATEGIES
from utility.supply.buying.planner import Planner
from utility.supply.buying.rules import AcesRule, RangersRule, SpecRule
from utility.supply.rationing import RATIONING
from utility.supply.simulated.utility import Policy

_RULES = Rules(sharing=STRATEGIES["spec"], reduces=True, sheds=True)
_SPEC = Policy(words="the town's specification", rules=_RULES, buying=SpecRule, rationing=RATIONING["rangers"])

POLICIES: Mapping[str, Policy] = MappingProxyType(
    {
        "none": Policy(words="no control: no sharing, no purchase ahead, no rationing", rules=Rules()),
        "no-sharing": replace(_SPEC, words="specification, but without sharing", rules=replace(_RULES, sharing=None)),
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
        "planner": replace(_SPEC, words="the specification, and purchases planned over a forecast", buying=Planner),
    }
)
