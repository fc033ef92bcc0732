"""Policies by name: which strategy shares, which rule buys and rations, and whether the utility has places reduce."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from gateway.control.strategies import STRATEGIES, Strategy
from utility.supply.buying.planner import Planner
from utility.supply.buying.rules import AcesRule, RangersRule, SpecRule
from utility.supply.buying.situation import Policy as Buying
from utility.supply.rationing import RATIONING, Rationing


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What controls the town."""

    words: str  # what it is, in a line
    sharing: Strategy | None = None  # how batteries share; ``None``: they do not
    # Makes the rule that buys power; ``None``: the plant buys what is needed at each moment.
    buying: Callable[[], Buying] | None = None
    rationing: Rationing | None = None  # how supply is rationed; ``None``: it is not
    # Whether places reduce in an island with little energy, within an import limit, and while supply is not NORMAL.
    reduces: bool = False
    reduces_all_islands: bool = False  # whether places of an island reduce however much energy it has (A5)
    sheds: bool = False  # whether places are off in turn in an island and within an import limit


_SPEC = Policy(
    words="the town's specification",
    sharing=STRATEGIES["spec"],
    buying=SpecRule,
    rationing=RATIONING["rangers"],
    reduces=True,
    sheds=True,
)

POLICIES: Mapping[str, Policy] = MappingProxyType(
    {
        "none": Policy(words="no control: no sharing, no purchase ahead, no rationing"),
        "no-sharing": replace(_SPEC, words="as spec, but without sharing", sharing=None),
        "spec": _SPEC,
        "aces": replace(
            _SPEC,
            words="the ACES report",
            sharing=STRATEGIES["aces"],
            buying=AcesRule,
            rationing=RATIONING["aces"],
            reduces_all_islands=True,
        ),
        "rangers": replace(_SPEC, words="the Power RAnGeRS report", sharing=STRATEGIES["rangers"], buying=RangersRule),
        "planner": replace(_SPEC, words="spec, and purchases planned over a forecast", buying=Planner),
    }
)
