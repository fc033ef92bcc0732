"""The utility in a scenario: policies by name; it measures, buys by a rule and rations each quarter-hour."""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from commonwatt.energy.controllers import ControllerRules
from commonwatt.energy.places import Places
from commonwatt.energy.plant import NO_ORDER, PlantOrder
from commonwatt.energy.plant import Plant as PhysicalPlant
from commonwatt.energy.step import NO_LIMIT_W, MicrogridsStep
from commonwatt.energy.strategies import STRATEGIES
from commonwatt.model.control import SupplyState
from commonwatt.model.units import QUARTER_S, EpochSeconds, MicrogridId, MilliwattHours
from commonwatt.town.scenario import Conditions
from commonwatt.town.town import Town
from utility.supply.buying import MAX_HORIZON, AcesRule, BuyFacts, PlantSituation, RangersRule, SpecRule
from utility.supply.buying import Policy as Buying
from utility.supply.planner import Planner
from utility.supply.rationing import RATIONING, Rationing, member_of

# Level of the plant's battery that is not traded, thousandths: for outages and the public microgrid.
RESERVE_PERMILLE = 200
_HISTORY = 30 * 96  # quarters of net load that are remembered


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What controls the town."""

    words: str  # what it is, in a line
    rules: ControllerRules  # what the controllers do
    # Makes the rule that buys power; ``None``: the plant buys what is needed at each moment.
    buying: Callable[[], Buying] | None = None
    rationing: Rationing | None = None  # how supply is rationed; ``None``: it is not

    def utility(self, town: Town, conditions: Conditions, plant: PhysicalPlant, blocks: list[Places]) -> "Utility":
        """Return the utility of a town that follows it."""
        return Utility(town, conditions, self, plant, blocks)


class Utility:
    """The utility's decisions in a town."""

    def __init__(
        self, town: Town, conditions: Conditions, policy: Policy, physical: PhysicalPlant, blocks: list[Places]
    ) -> None:
        self._town = town
        self._conditions = conditions
        self._policy = policy
        self._physical = physical
        self._blocks = blocks
        self._buy = None if policy.buying is None else policy.buying()
        self._reserve = physical.capacity * RESERVE_PERMILLE // 1000
        self._keep = 0 if self._buy is None else self._reserve
        self._history: deque[int] = deque(maxlen=_HISTORY)
        self._net: MilliwattHours = 0
        self._members = {name: member_of(town.table, town.microgrids[name]) for b in blocks for name in b.microgrids}
        self._demand_w = dict.fromkeys(self._members, 0)
        self._limits_w: dict[MicrogridId, int | None] = {}
        self._decided = (NO_ORDER, self._free())

    def decide(
        self, time: EpochSeconds, level: MilliwattHours, supply: SupplyState, *, reached: bool, alive: bool
    ) -> tuple[PlantOrder, list[NDArray[np.int64]]]:
        """Return the order to the plant, and the import limits of each layout's microgrids, watts.

        Args:
            reached: Whether the utility reaches the plant and the controllers.
            alive: Whether the regional line has voltage.
        """
        if not reached:
            # The plant goes on keeping its reserve, without a purchase; the controllers' limits end.
            self._limits_w = {}
            return PlantOrder(keep=self._keep), self._free()
        if time % QUARTER_S == 0:
            plant = self._plant(level, supply, alive=alive)
            self._decided = self._order(time, plant), self._limits(supply, plant)
        return self._decided

    def measured(self, time: EpochSeconds, steps: list[MicrogridsStep]) -> None:
        """Take the meters' readings of a step."""
        step_s = self._blocks[0].step_s
        for block, step in zip(self._blocks, steps, strict=True):
            net = step.exchange.imported - step.exchange.exported
            wanted = (step.exchange.imported + step.exchange.short.sum(axis=0)) * 3600 // (1000 * step_s)
            self._net += int(net.sum())
            self._demand_w |= dict(zip(block.microgrids, wanted.tolist(), strict=True))
        if (time + step_s) % QUARTER_S == 0:
            self._history.append(self._net)
            self._net = 0

    def _plant(self, level: MilliwattHours, supply: SupplyState, *, alive: bool) -> PlantSituation:
        physical, step_s = self._physical, self._blocks[0].step_s
        return PlantSituation(
            level=level,
            capacity=physical.capacity,
            floor=0,
            reserve=self._reserve,
            power_w=physical.power * 3600 // (1000 * step_s),
            loss_permille=physical.loss_permille,
            line_w=physical.line[supply] * 3600 // (1000 * step_s) if alive else 0,
        )

    def _order(self, time: EpochSeconds, plant: PlantSituation) -> PlantOrder:
        if self._buy is None:
            return NO_ORDER
        table = self._town.table
        quarters = range(time, time + MAX_HORIZON * QUARTER_S, QUARTER_S)
        prices = [self._conditions.price_percent(quarter, table) for quarter in quarters]
        situation = BuyFacts(
            now=time,
            plant=plant,
            prices=np.array(prices, dtype=np.int64),
            credit=100,
            history=np.array(self._history, dtype=np.int64),
            zone=ZoneInfo(table.timezone),
            peak_hours=table.peak_hours,
        )
        energy = self._buy(situation).energy
        return PlantOrder(buy=energy * self._blocks[0].step_s // QUARTER_S, keep=self._keep)

    def _free(self) -> list[NDArray[np.int64]]:
        return [np.full(len(block.microgrids), NO_LIMIT_W) for block in self._blocks]

    def _limits(self, supply: SupplyState, plant: PlantSituation) -> list[NDArray[np.int64]]:
        if self._policy.rationing is None:
            return self._free()
        members = [
            replace(m, demand_w=max(0, self._demand_w[name]), limit_w=self._limits_w.get(name))
            for name, m in self._members.items()
        ]
        rations = self._policy.rationing(supply, members, plant)
        self._limits_w = {name: ration.import_limit_w for name, ration in rations.items()}
        told = {name: NO_LIMIT_W if limit is None else limit for name, limit in self._limits_w.items()}
        return [np.array([told[name] for name in block.microgrids]) for block in self._blocks]


_RULES = ControllerRules(sharing=STRATEGIES["spec"], reduces=True, sheds=True)
_SPEC = Policy(words="the town's specification", rules=_RULES, buying=SpecRule, rationing=RATIONING["rangers"])

POLICIES: Mapping[str, Policy] = MappingProxyType(
    {
        "none": Policy(words="no control: no sharing, no purchase ahead, no rationing", rules=ControllerRules()),
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
