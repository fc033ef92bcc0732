"""A seeded world at a month's end: readings are settled and billed while they come; faults of people."""

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cache
from unittest.mock import patch
from zoneinfo import ZoneInfo

from commonwatt.model.calendar import month_quarters
from commonwatt.model.exceptions import ConfigError, StoreError
from commonwatt.model.units import QUARTER_S, MeterId
from commonwatt.town.town import Function
from harness.billing.worlds import tariff
from harness.world.faults import Faults, Kinds
from harness.world.month import money
from harness.world.month.process import JobProcess, Work
from harness.world.node import finish
from harness.world.utility import UtilityNode
from harness.world.world import MEASURED, TOWN, Options, World
from utility.assembly.metrics import UtilityMetrics
from utility.billing import jobs as billing
from utility.billing.jobs import make_bills
from utility.jobs.plans import HERE, LocalMonth, Period, Plan, Seconds, Threads
from utility.jobs.store import Turn
from utility.registry.accounts import Account, Holding
from utility.registry.store.accounts import load_for_change, save_dated_registry
from utility.settings import BillingSettings, SettlementSettings
from utility.settlement import jobs as settlement
from utility.settlement.jobs import SettlementJob
from utility.tariffs.store import propose, publish


class MonthFaults(Faults):
    """The faults of a world at a month's end."""

    _world: "MonthWorld"

    def kinds(self) -> Kinds:
        """Return each kind of fault."""
        return {
            **super().kinds(),
            "bills issued": (self._issue, (300, 900)),
            "process pauses": (self._pause, (None, 600)),
            "process killed": (self._kill, (None, 600)),
        }

    def _issue(self) -> None:
        """Let two people issue what the service billed."""
        try:
            money.issue(self._world)
        except (ConfigError, StoreError) as error:
            self._world.tell("people", f"can't issue: {error}")

    def _pause(self) -> None:
        """Let a process pause for longer than its lease."""
        if self._world.utility.up:
            self._rng.choice(self._world.utility.processes).pause_s = self._rng.uniform(30, 300)

    def _kill(self) -> None:
        if self._world.utility.up:
            self._rng.choice(self._world.utility.processes).kill()


SETTLE_S = 600
FINAL_S = 300  # seconds after its end until a day is final; so bills are due in the world
MOVED_OUT, MOVED_IN = 1, 101  # accounts of a house whose people move
POLICY = {"name": "spec", "base_of_part_month": "whole"}
PRICES = (("peak", "32.00", "16.00"), ("off-peak", "20.00", "10.00"))  # high: a reading is cents


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
        self.processes = [
            JobProcess(self, self.works, self.world.finished, name, random.Random(chances.random()))
            for name in ("one", "other")
        ]

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


ENDS = (("Europe/London", "2026-11"), ("Europe/Paris", "2026-11"), ("America/New_York", "2026-12"))
"""Zones and months; in London the local month ends with a day of UTC, so that its bills are due in the world."""


class MonthWorld(World):
    """One world at a month's end."""

    measured: Mapping[str, tuple[MeterId, ...]] = {
        "r001": MEASURED["r001"],
        "r002": (20001, 20002, 20004),
    }  # one imports
    utility: MonthUtility

    def __init__(self, seed: int, options: Options, unsynced: Sequence[str] = ()) -> None:
        """Make the world of a seed."""
        self.chances = random.Random(f"{seed}/month")
        name, self.month = self.chances.choice((ENDS[0], ENDS[0], *ENDS))
        self.zone = ZoneInfo(name)
        self.month_end = month_quarters(self.month, self.zone)[1]  # the first quarter of the next month
        self.start = self.month_end * QUARTER_S - self.chances.choice((300, 900, 1500))
        self.town_file = f'{TOWN}\n[town]\ntimezone = "{name}"'
        # When a resident moves: often with the month.
        self.moved = self.month_end + self.chances.choice((-1, 0, 0, 1))
        self.finished: set[tuple[int, str, str]] = set()  # (past of the database, job, period) done
        super().__init__(seed, options, unsynced)

    def make_utility(self) -> MonthUtility:
        """Return the utility, which settles and bills."""
        return MonthUtility(self, self.town, self.head_end)

    def make_faults(self) -> MonthFaults:
        """Return the faults."""
        return MonthFaults(self)

    def check(self) -> None:
        """Check the end, also the bills."""
        super().check()
        now = self.clock() + money.LATER_S
        self.utility.settle(now)
        money.check(self, self.month, self.zone, self.moved, self.month_end, now)
