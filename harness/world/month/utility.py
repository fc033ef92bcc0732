"""The utility at a month's end: two processes on its database settle and bill in turns."""

import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING
from unittest.mock import patch

from commonwatt.config.utility import BillingSettings, SettlementSettings
from commonwatt.town.town import Function
from harness.billing.worlds import tariff
from harness.world.month.process import JobProcess
from harness.world.node import finish
from harness.world.utility import UtilityNode
from utility.assembly.metrics import UtilityMetrics
from utility.billing import jobs as billing
from utility.billing.jobs import make_bills
from utility.jobs.calendar_periods import LocalMonth, Period, Seconds
from utility.jobs.plans import Plan
from utility.jobs.store.job_leases import Turn
from utility.jobs.threads import HERE, Threads
from utility.registry.accounts import Account, Holding
from utility.registry.store.accounts import load_for_change, save_dated_registry
from utility.settlement.jobs import settlement
from utility.settlement.jobs.settlement import SettlementJob
from utility.tariffs.store.tariffs import propose, publish

if TYPE_CHECKING:
    from harness.world.month.world import MonthWorld

SETTLE_S = 600
FINAL_S = 300  # seconds after its end until a day is final; so bills are due in the world
MOVED_OUT, MOVED_IN = 1, 101  # accounts of a house whose people move
POLICY = {"name": "spec", "base_of_part_month": "whole"}
PRICES = (("peak", "32.00", "16.00"), ("off-peak", "20.00", "10.00"))  # high: a reading is cents

Work = Callable[[Turn], Awaitable[None]]


@contextmanager
def hurried() -> Iterator[None]:
    """Let days be settled while they last, and be final soon after their end."""
    with ExitStack() as stack:
        stack.enter_context(patch.object(settlement, "FINISHED_S", -86_400))
        stack.enter_context(patch.object(billing, "LOOK_AGAIN_S", 120))
        stack.enter_context(patch.object(settlement, "deadline", lambda day, *_: (day + 1) * 86_400 + FINAL_S))
        yield


class MonthUtility(UtilityNode):
    """The utility's service, and a second process that does its jobs."""

    world: "MonthWorld"

    def _register(self) -> None:
        super()._register()
        self._publish_tariff()
        self._move()

    def _publish_tariff(self) -> None:
        town = {"name": "town", "text": "a test", "timezone": self.world.zone.key, "effective": "2026-01-01"}
        file = tariff(prices=PRICES, peak=("00:00", "00:30"), policy=POLICY, tariff=town | {"base": "12.00"})
        with self.database.writes.begin() as connection:
            made = propose(connection, file, "", "anna", self.world.start)
            publish(connection, made.name, made.version, "ben", self.world.start)

    def _move(self) -> None:
        """Let other people move into a house."""
        with self.database.writes.begin() as connection:
            before = load_for_change(connection)
            held = Holding(account=MOVED_OUT, start=0, end=self.world.moved)
            after = Holding(account=MOVED_IN, start=self.world.moved)
            meters = {
                number: replace(one, holdings=(held, after)) if one.account_at(0) == MOVED_OUT else one
                for number, one in before.meters.items()
            }
            accounts = {**before.accounts, MOVED_IN: Account(number=MOVED_IN, function=Function.HOUSE)}
            changed = replace(before, meters=meters, accounts=accounts)
            save_dated_registry(connection, before, changed, "anna", self.world.start, self.world.zone)

    def works(self, threads: Threads) -> tuple[tuple[Plan, Work], ...]:
        """Return the jobs of a process, and what they do."""
        settings, prices = SettlementSettings(), BillingSettings()
        settle = SettlementJob(settings, self.database, _metrics().settlement, threads, is_trusted=lambda: True)
        month = LocalMonth(self.world.zone)
        return (
            (Plan(name="settlement", does="", cadence=Seconds(SETTLE_S)), settle.run),
            (
                Plan(name="bills", does="", cadence=month, catch_up=True, from_previous=True),
                lambda turn: make_bills(prices, self.database, threads, turn),
            ),
        )

    def started(self) -> None:
        """Begin to tick, and start the processes."""
        super().started()
        chances = random.Random(f"{self.world.seed}/processes {self.starts}")
        self.processes = [JobProcess(self, name, random.Random(chances.random())) for name in ("one", "other")]

    def settle(self, now: int) -> None:
        """Settle all that is due, with readings of clocks that were ahead."""
        self._compact(now)
        ((_, work), *_) = self.works(HERE)
        finish_now(work, "settlement", now)


def finish_now(work: Work, name: str, now: int) -> None:
    """Do a job at once."""
    finish(work(Turn(job=name, period=Period(start=0, end=1, name=name), attempt=1, now=now)))  # type: ignore[arg-type]


@cache
def _metrics() -> UtilityMetrics:
    return UtilityMetrics()
