"""The work of the utility's jobs, by the names of their plans in ``catalogue``; ``runner`` runs what is due."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from commonwatt.model.time import Trust
from commonwatt.model.units import EpochSeconds
from commonwatt.runtime.clock import Clock
from commonwatt.runtime.watchdog import WorkProgress
from commonwatt.site.bundle import BUNDLES
from utility.assembly.metrics import UtilityMetrics
from utility.billing.jobs import make_bills
from utility.billing.store.witnesses import take_in_and_ask
from utility.care.store import wanted_bundles
from utility.collection.jobs import BalanceJob
from utility.control.store import wanted_weights
from utility.corrections.jobs import validate
from utility.database.base import SQLAlchemyError
from utility.database.checks import is_away
from utility.database.database import Database
from utility.exports.jobs import back_up, export_month
from utility.fleet.jobs import roll_out
from utility.fleet.store import drop_reports
from utility.jobs.plans import Threads, catalogue
from utility.jobs.runner import Job, Schedule
from utility.jobs.store import Turn, counts, listed
from utility.mail.jobs import send_mails
from utility.mail.store import remind
from utility.outbox.store import Wanted, tell, to_tell
from utility.overview.jobs import count_days
from utility.overview.store.old_records import drop_days, drop_months, kept
from utility.readings.gaps import MAX_ASKED
from utility.readings.ingest import Ingest
from utility.readings.store.compactor import Compactor
from utility.readings.store.gaps import GapFinder
from utility.readings.store.retention import Retention, make_ahead
from utility.registry.store.statements import wanted_spared
from utility.settings import UtilitySettings
from utility.settlement.jobs import SettlementJob, record_sharing
from utility.statistics.jobs import project, take_in
from utility.supply.jobs import SupplyJob
from utility.tariffs.store import wanted_rates

URGENT = ("supply",)  # jobs that run by themselves: a purchase must not wait for a backlog that is compacted
FILES = ("exports", "backup")  # jobs that write files, for minutes, in processes of their own
# Most searches for gaps in a turn: after days without the utility there are thousands, and other jobs come between.
MAX_SEARCHES = 20
ASKS_WITHIN_S = 60  # seconds that a message may wait for the database, beyond which no missing slot is requested

log = logging.getLogger(__name__)

_T = TypeVar("_T")


class ServiceJobs:
    """The utility's jobs; they read on a thread of their own.

    On SQLite they write on the service's writing thread, on PostgreSQL compaction and retention write on their own.
    """

    def __init__(
        self, settings: UtilitySettings, database: Database, clock: Clock, ingest: Ingest, metrics: UtilityMetrics
    ) -> None:
        self.reading = WorkProgress()  # the current step of their own thread, for a watchdog
        self._settings = settings
        self._database = database
        self._clock = clock
        self._ingest = ingest
        self._metrics = metrics
        self._compactor = Compactor(database)
        self._finder = GapFinder(database)
        self._thread = ThreadPoolExecutor(1, "jobs")
        # An SQLite file has one writer at a time; on a server, appends don't wait for other writers.
        write = self._ingest.in_thread if database.has_one_writer else self._in_thread
        self._threads = threads = Threads(read=self._in_thread, write=write)

        self.balance = BalanceJob(database, threads, ingest.silent_since, is_trusted=self._is_trusted)
        runs = self._runs(threads)
        self._table = tuple(Job(plan=plan, run=runs[plan.name]) for plan in catalogue(settings))
        self._urgent, self._schedule, self._files = (
            Schedule(table=table, database=database, clock=clock, in_thread=ingest.in_thread, failed=self._failed)
            for table in (
                [job for job in self._table if job.name in URGENT],
                [job for job in self._table if job.name not in (*URGENT, *FILES)],
                [job for job in self._table if job.name in FILES],
            )
        )
        self._is_counted = False
        metrics.jobs.expect([job.name for job in self._table])

    def _runs(self, threads: Threads) -> Mapping[str, Callable[[Turn], Awaitable[None]]]:
        """Return the work of each job."""
        settings, database, metrics, is_trusted = self._settings, self._database, self._metrics, self._is_trusted
        supply = SupplyJob(settings.supply, database, metrics.supply, threads, is_trusted=is_trusted)
        settlement = SettlementJob(settings.settlement, database, metrics.settlement, threads, is_trusted=is_trusted)
        return {
            "supply": supply.run,
            "rates": self._tells(wanted_rates, settings.billing.tariff),
            "weights": self._tells(wanted_weights),
            "spared": self._tells(wanted_spared),
            "balance": self.balance.run,
            "bundles": self._tells(wanted_bundles, settings.tokens.parent / BUNDLES),
            "rollout": partial(roll_out, database, threads, settings.cliques),
            "sharing": partial(record_sharing, database, threads),
            "compact": self._compact,
            "settlement": settlement.run,
            "gaps": self._find_gaps,
            "bills": partial(make_bills, settings.billing, database, threads),
            "witnesses": self._writes(take_in_and_ask, settings.head_end_ca),
            "mail": partial(send_mails, settings, database, threads),
            "completeness": partial(count_days, database, threads, is_trusted),
            "statistics": partial(take_in, database, threads),
            "projection": partial(project, settings.billing, database, threads, is_trusted),
            "validation": partial(validate, database, metrics.corrections, threads, is_trusted),
            "retention": self._retain,
            "reminders": self._writes(remind, settings),
            "exports": partial(export_month, settings, database),
            "backup": partial(back_up, settings),
        }

    def _is_trusted(self) -> bool:
        return self._ingest.trust is not Trust.NONE

    async def tick_supply(self) -> None:
        """Run the job of the town's supply if it is due."""
        await self._run_due(self._urgent)

    async def tick_files(self) -> None:
        """Run the jobs that write files if they are due."""
        await self._run_due(self._files)

    async def tick(self) -> None:
        """Run the due housekeeping, and count."""
        await self._run_due(self._schedule)
        health = self._ingest.health
        if health.damaged:
            return
        try:
            if not self._is_counted:
                # The present periods' jobs ran before this start, so this process has no counts yet.
                await self._in_thread(self._count)
            await self._in_thread(self._count_periods)
        except SQLAlchemyError as error:
            health.failed(error, "the count of the database")

    async def _run_due(self, schedule: Schedule) -> None:
        """Run what is due: nothing with a damaged database, and on a full disk only jobs that free space."""
        health = self._ingest.health
        if not health.damaged:
            await schedule.tick(is_trusted=self._is_trusted(), is_full=bool(health.alarms()))

    def _failed(self, job: Job, error: Exception) -> None:
        if isinstance(error, SQLAlchemyError) or is_away(error):
            self._ingest.health.failed(error, f"job {job.name}")
        else:
            log.error("job %s failed", job.name, exc_info=error)
        self._metrics.jobs.failures.labels(job.name).inc()

    def close(self) -> None:
        """Wait for the running step; no further one begins."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _writes(self, work: Callable[..., None], *arguments: object) -> Callable[[Turn], Awaitable[None]]:
        """Return a job that is one transaction."""

        async def run(turn: Turn) -> None:
            await self._threads.write(self._database.write, work, *arguments, turn.now)

        return run

    def _tells(self, wanted: Callable[..., Sequence[Wanted]], *arguments: object) -> Callable[[Turn], Awaitable[None]]:
        """Return a job that tells controllers what a room wants told; it writes only if a controller is to be told."""

        def new(now: EpochSeconds) -> Sequence[Wanted]:
            with self._database.reads.begin() as connection:
                return to_tell(connection, wanted(connection, *arguments, now), now)

        async def run(turn: Turn) -> None:
            if found := await self._in_thread(new, turn.now):
                await self._threads.write(self._database.write, tell, found, turn.now)

        return run

    async def _compact(self, turn: Turn) -> None:
        while (replacement := await self._in_thread(self._compactor.plan, turn.now)) is not None:
            made = await self._threads.write(self._compactor.apply, replacement)
            self._metrics.readings.compacted.inc(made)
            if not made and not replacement.damaged:
                return

    async def _retain(self, turn: Turn) -> None:
        """Make the coming months' partitions, and drop what is older than ``keep_months`` and ``keep_years``."""
        await self._threads.write(make_ahead, self._database, turn.now)
        # With an unsynchronized clock, new data may seem old.
        if not self._is_trusted():
            return
        await self._threads.write(self._database.write, drop_reports, turn.now)
        retention = Retention(self._database, self._settings.keep_months)
        first = await self._in_thread(retention.plan, turn.now)
        while first is not None and await self._threads.write(retention.apply, first):
            pass
        keep = await self._in_thread(self._database.read, kept, turn.now, self._settings.keep_years)
        await self._threads.write(drop_months, self._database, keep)
        while await self._threads.write(drop_days, self._database, keep):
            pass

    async def _find_gaps(self, turn: Turn) -> None:
        now, left = turn.now, MAX_ASKED
        for _ in range(MAX_SEARCHES):
            # What is missing may wait in the queue, and its answer would wait there, too.
            left = left if self._ingest.queue_s <= ASKS_WITHIN_S else 0
            run = await self._in_thread(self._finder.plan, now, self._settings.gap_age_s, left)
            asked = await self._ingest.in_thread(self._finder.apply, run, now)
            self._metrics.readings.asked.inc(asked)
            left -= asked
            if not run.more:
                break
        await self._in_thread(self._count)

    async def _in_thread(self, work: Callable[..., _T], *arguments: object) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._watched, work, *arguments)

    def _watched(self, work: Callable[..., _T], *arguments: object) -> _T:
        with self.reading.step():
            return work(*arguments)

    def _count(self) -> None:
        self._database.read(self._metrics.count)
        self._is_counted = True

    def _count_periods(self) -> None:
        now = int(self._clock.now())
        found, metrics = self._database.read(counts, now), self._metrics.jobs
        for one in listed(self._database, [job.plan for job in self._table], now):
            due, failed = found.get(one.name, (0, 0))
            metrics.periods_overdue.labels(one.name).set(due)
            metrics.periods_failed.labels(one.name).set(failed)
            metrics.late.labels(one.name).set(one.late_s)
            metrics.paused.labels(one.name).set(one.paused is not None)
            metrics.seconds.labels(one.name).set((one.took_ms or 0) / 1000)
