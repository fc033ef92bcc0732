"""What the service does by itself, from time to time. The scheduler only ticks; what is done is told by the database.

Every tick does the jobs whose present period is not marked done; so a missed tick, a restart or a second tick
matters nothing (facts: APScheduler).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from commonwatt.config.settings import UtilitySettings
from commonwatt.protocol.messages import Trust
from commonwatt.runtime.clock import Clock
from commonwatt.runtime.watchdog import Work
from utility.ingest.ingest import Ingest
from utility.metrics import UtilityMetrics
from utility.store.compactor import Compactor
from utility.store.database import Database
from utility.store.gaps import GapFinder
from utility.store.quarantine import count_held
from utility.store.reads import count_conflicts
from utility.store.registry import last_done, mark_done
from utility.store.retention import Retention, make_ahead
from utility.store.tables import gap

MONTHS_S = 3_600
"""How often months are seen to: made ahead, and dropped."""

log = logging.getLogger(__name__)

_T = TypeVar("_T")


@dataclass(frozen=True)
class Job:
    """A job.

    Attributes:
        name: Its name in the ``period`` table.
        period_s: Done once in each of these, clock seconds.
        run: Does it, given the clock's time.
        makes_room: Whether it is done on a full disk too.
    """

    name: str
    period_s: int
    run: Callable[[int], Awaitable[None]]
    makes_room: bool = False


class Jobs:
    """The utility's jobs. They read on a thread of their own and write on the service's writing thread.

    Attributes:
        reading: What their own thread is at, for a watchdog to see.
    """

    def __init__(
        self, settings: UtilitySettings, database: Database, clock: Clock, ingest: Ingest, metrics: UtilityMetrics
    ) -> None:
        self.reading = Work()
        self._settings = settings
        self._database = database
        self._clock = clock
        self._ingest = ingest
        self._metrics = metrics
        self._compactor = Compactor(database)
        self._finder = GapFinder(database)
        self._thread = ThreadPoolExecutor(1, "jobs")
        # A file has one writer at a time; on a server nobody who appends waits for what is written beside it.
        self._writing = self._ingest.in_thread if database.has_one_writer else self._in_thread
        self._table = (
            Job("compact", settings.compact_s, self._compact),
            Job("gaps", settings.gaps_s, self._find_gaps),
            Job("months", MONTHS_S, self._see_to_months, makes_room=True),
        )
        self._is_counted = False
        for job in self._table:
            metrics.job_failures.labels(job.name)

    async def tick(self) -> None:
        """Do what is due and not done, unless the database is damaged; without room, only what makes some."""
        health = self._ingest.health
        if health.damaged:
            return
        is_full = bool(health.alarms())
        for job in (job for job in self._table if job.makes_room or not is_full):
            try:
                await self._do_if_due(job)
            except SQLAlchemyError as error:
                # The next tick tries again.
                self._ingest.health.failed(error)
                log.error("job %s failed: %s", job.name, error)
                self._metrics.job_failures.labels(job.name).inc()

    async def _do_if_due(self, job: Job) -> None:
        now = int(self._clock.now())
        number = now // job.period_s
        # Not "earlier": a clock that was once ahead must not keep the jobs from being done until then.
        if await self._ingest.in_thread(self._last_done, job.name) != number:
            await job.run(now)
            await self._ingest.in_thread(self._mark_done, job.name, number)
        elif not self._is_counted:
            # Done before this start, so what it counted is not known here.
            await self._in_thread(self._count)

    def close(self) -> None:
        """Let the step on its way end, and no other begin."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    async def _compact(self, now: int) -> None:
        while (replacement := await self._in_thread(self._compactor.plan, now)) is not None:
            made = await self._writing(self._compactor.apply, replacement)
            self._metrics.compacted.inc(made)
            if not made and not replacement.damaged:
                return

    async def _see_to_months(self, now: int) -> None:
        """Make the partitions to come, and drop what is older than is kept."""
        await self._writing(make_ahead, self._database, now)
        # What a clock that nobody keeps takes for old may be new.
        if self._settings.keep_months is None or self._ingest.trust is Trust.NONE:
            return
        retention = Retention(self._database, self._settings.keep_months)
        first = await self._in_thread(retention.plan, now)
        while first is not None and await self._writing(retention.apply, first):
            pass

    async def _find_gaps(self, now: int) -> None:
        more = True
        while more:
            run = await self._in_thread(self._finder.plan, now, self._settings.gap_age_s)
            self._metrics.asked.inc(await self._ingest.in_thread(self._finder.apply, run, now))
            more = run.more
        await self._in_thread(self._count)

    async def _in_thread(self, work: Callable[..., _T], *arguments: object) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._watched, work, *arguments)

    def _watched(self, work: Callable[..., _T], *arguments: object) -> _T:
        with self.reading.step():
            return work(*arguments)

    def _count(self) -> None:
        with self._database.reads.begin() as connection:
            open_gaps = select(func.count()).select_from(gap).where(gap.c.is_open)
            self._metrics.gaps_open.set(connection.execute(open_gaps).scalar_one())
            self._metrics.held_open.set(count_held(connection))
            self._metrics.conflicts.set(count_conflicts(connection))
        self._is_counted = True

    def _last_done(self, name: str) -> int:
        with self._database.reads.begin() as connection:
            return last_done(connection, name)

    def _mark_done(self, name: str, number: int) -> None:
        with self._database.writes.begin() as connection:
            mark_done(connection, name, number)
