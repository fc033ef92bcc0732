"""The job of the town's supply: each minute it plans the purchase of the quarter-hour if there is none, and rations.

A repeated run changes nothing: a quarter has one purchase, and a controller is sent only what it was not sent yet.
"""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from secrets import token_hex

from commonwatt.model.control import SupplyState
from commonwatt.model.units import QUARTER_S, EpochSeconds, MicrogridId, Quarter
from commonwatt.protocol.plant_messages import PlantAction, PlantCommand
from utility.database.database import Database, read_setting, save_setting
from utility.database.town_zone import peak_hours_of, zone_of
from utility.jobs.plans import Threads
from utility.jobs.store import Turn
from utility.outbox.store import last_report
from utility.settings import SupplySettings
from utility.supply.deciding import (
    HISTORY_QUARTERS,
    PlantFacts,
    inputs_of,
    like_hours,
    planned,
    price_at,
    rations_of,
    situation_of,
    unknown,
    unplanned,
)
from utility.supply.metrics import SupplyMetrics
from utility.supply.planner import POLICIES
from utility.supply.rationing import RATIONING, Ration, changes
from utility.supply.store import (
    WORDS,
    NewPurchase,
    add_purchase,
    announced_storm,
    asked_until,
    first_lacking,
    has_purchase,
    members,
    quarters_between,
    rations,
    tell_rations,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SupplyPlan:
    """What a run decided."""

    words: str = ""  # why there is no purchase; empty: there is one
    purchase: NewPurchase | None = None  # the purchase to store; ``None``: there is one already, or none can be planned
    rations: Mapping[MicrogridId, Ration] = field(default_factory=dict)  # the rations; empty: none were decided
    changes: tuple[dict[str, object], ...] = ()  # the kinds of changes among the rations, with their facts
    # What the rations were decided for; ``None``: they were not.
    rationed: tuple[Quarter, SupplyState, int] | None = None


class Planner:
    """Plans from what the database has; it writes nothing."""

    def __init__(self, settings: SupplySettings, database: Database, *, is_trusted: Callable[[], bool]) -> None:
        # What the rations in force were decided for; ``None``: nothing is known of them.
        self.rationed: tuple[Quarter, SupplyState, int] | None = None
        self._settings = settings
        self._database = database
        self._is_trusted = is_trusted
        self._policy = POLICIES[settings.buying]()
        self._rule = RATIONING[settings.rationing]

    def plan(self, now: EpochSeconds) -> SupplyPlan:
        """Return what is to be done now."""
        facts, is_bought = self._facts(now)
        if (why := unknown(facts)) is not None:
            return SupplyPlan(words=why)
        plan = self._rations(facts)
        if is_bought:
            return plan
        if (why := unplanned(facts)) is not None:
            return replace(plan, words=why)
        return replace(plan, purchase=self._purchase(facts))

    def _facts(self, now: EpochSeconds) -> tuple[PlantFacts, bool]:
        """Return the facts, and whether the present quarter-hour has a purchase."""
        quarter = now // QUARTER_S
        with self._database.reads.begin() as connection:
            facts = PlantFacts(
                now=now,
                is_trusted=self._is_trusted(),
                seen=last_report(connection),
                quarters=quarters_between(connection, quarter - HISTORY_QUARTERS, quarter - 1),
                zone=zone_of(connection),
                peak_hours=peak_hours_of(connection),
                reserve_permille=self._settings.reserve_permille,
                storm=announced_storm(connection, now),
            )
            return facts, has_purchase(connection, quarter)

    def _purchase(self, facts: PlantFacts) -> NewPurchase:
        assert facts.seen is not None
        situation = situation_of(facts)
        purchase = planned(self._policy, facts, situation)
        begin = self._database.read(asked_until) or facts.quarter - HISTORY_QUARTERS
        first = first_lacking(facts.quarters, begin, facts.quarter)
        command = PlantCommand(
            # Not the quarter alone: a database that was restored may plan a quarter anew, and differently.
            id=f"buy-{facts.quarter}-{token_hex(4)}",
            cmd=PlantAction.PURCHASE,
            until=situation.now + QUARTER_S,
            quarter=facts.quarter,
            energy_mwh=purchase.energy,
            keep_mwh=facts.reserve,
            first_quarter=first,
        )
        return NewPurchase(
            command=command,
            energy=purchase.energy,
            price=price_at(facts.seen[1], situation.now),
            policy=self._settings.buying,
            reason=purchase.reason,
            inputs=inputs_of(facts, situation),
        )

    def _rations(self, facts: PlantFacts) -> SupplyPlan:
        """Return a plan of the rations to tell: decided once a quarter-hour, and at a change of the supply or line."""
        assert facts.seen is not None
        supply = facts.seen[1].supply
        rationed = facts.quarter, supply, facts.seen[1].line_w
        if rationed == self.rationed:
            return SupplyPlan(rationed=rationed)
        hours = like_hours(facts.quarter * QUARTER_S, facts.zone)
        with self._database.reads.begin() as connection:
            before = rations(connection, facts.now)
            limits = {name: limit for name, one in before.items() if (limit := one.import_limit_w) is not None}
            asking = members(connection, facts.quarter, hours, frozenset(limits))
        found = rations_of(self._rule, facts, [replace(one, limit_w=limits.get(one.microgrid)) for one in asking])
        changed = tuple(changes(found, supply, before))
        return SupplyPlan(rations=found, changes=changed, rationed=rationed)


@dataclass(eq=False)
class SupplyJob:
    """Plans and writes; reading and planning are on the jobs' thread, writing on the one for writes."""

    settings: SupplySettings  # the policies
    database: Database  # the database
    metrics: SupplyMetrics  # what is counted of it
    threads: Threads  # where it reads and writes
    _: KW_ONLY
    is_trusted: Callable[[], bool]  # returns whether the clock is synchronized

    def __post_init__(self) -> None:
        """Make what plans."""
        self._planner = Planner(self.settings, self.database, is_trusted=self.is_trusted)

    async def run(self, turn: Turn) -> None:
        """Plan what is to be done now, and write it in one transaction."""
        plan: SupplyPlan = await self.threads.read(self._planner.plan, turn.now)
        is_new, limited = await self.threads.write(self._apply, plan, turn.now)
        if is_new:
            self.metrics.purchases.labels(self.settings.buying).inc()
        self.metrics.limited.set(limited)
        self._planner.rationed = plan.rationed or self._planner.rationed

    def _apply(self, plan: SupplyPlan, now: EpochSeconds) -> tuple[bool, int]:
        """Write a plan in one transaction; return whether a purchase was added, and how many microgrids are limited."""
        with self.database.writes.begin() as connection:
            added = plan.purchase is not None and add_purchase(connection, plan.purchase, now)
            if plan.rationed is not None:
                tell_rations(connection, plan.rations, plan.rationed[1], now)
            if (read_setting(connection, WORDS) or "") != plan.words:
                save_setting(connection, WORDS, plan.words)
                if plan.words:
                    log.info("no purchase for this quarter-hour yet: %s", plan.words)
            limited = sum(one.import_limit_w is not None for one in rations(connection, now).values())
        for change in plan.changes:
            log.info("rations: %s", json.dumps(change))
        if added and plan.purchase is not None:
            log.info("buying: %s", json.dumps({"mwh": plan.purchase.energy, "why": plan.purchase.reason}))
        return added, limited
