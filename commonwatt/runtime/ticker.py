"""Ticks: periodic calls on APScheduler that continue after a jump of the machine's clock.

APScheduler computes its next wake-up from the machine's clock: set back an hour, it would sleep for an hour.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_MAX_INSTANCES, EVENT_JOB_SUBMITTED, JobExecutionEvent
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.interval import IntervalTrigger

from commonwatt.runtime.watchdog import LoopProgress

_SHORTEST_REAL_S = 0.05

# Its warnings about skipped ticks are noise: the next tick does the due work.
logging.getLogger("apscheduler").setLevel(logging.ERROR)


def _is_no_cancellation(record: logging.LogRecord) -> bool:
    return record.exc_info is None or not isinstance(record.exc_info[1], asyncio.CancelledError)


# It would log each call that a stop cancels, begun or only due, as an error with a traceback.
logging.getLogger("apscheduler.executors.default").addFilter(_is_no_cancellation)


class Ticker:
    """Runs periodic calls; the same call never runs twice at a time.

    Calls of longer periods begin together with one of the shortest period, so that their work is done together.

    Args:
        phase: By which share of its period each call is later than another ticker's, 0 to 1.
    """

    def __init__(self, phase: float = 0.0) -> None:
        self._phase = phase
        self._shortest: tuple[datetime, timedelta] | None = None  # the first call of the shortest period, and this
        self.steps = LoopProgress()  # a step for each tick, for the watchdog
        self.failures = 0  # calls that failed; each is logged, and the period continues
        self._scheduler = AsyncIOScheduler(
            timezone=UTC, job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1}
        )
        self._scheduler.add_listener(lambda _: self.steps.step(), EVENT_JOB_SUBMITTED | EVENT_JOB_MAX_INSTANCES)
        self._scheduler.add_listener(self._failed, EVENT_JOB_ERROR)

    def start(self) -> None:
        """Start on the running loop."""
        self._scheduler.start()

    def stop(self) -> None:
        """Stop; a running call is cancelled and not counted as a failure."""
        self._scheduler.shutdown(wait=False)

    def every(self, name: str, real_s: float, work: Callable[..., Awaitable[None]], *arguments: object) -> None:
        """Call ``work`` every so many real seconds; replace an earlier call of the same name."""
        every_s = max(_SHORTEST_REAL_S, real_s)
        first = self._begins(datetime.now(UTC), timedelta(seconds=every_s), self._phase or 1)  # noqa: TID251 - its clock
        trigger = IntervalTrigger(seconds=every_s, start_date=first, timezone=UTC)
        self._scheduler.add_job(self._call, trigger, (work, *arguments), id=name, replace_existing=True)

    def _begins(self, now: datetime, every: timedelta, phase: float) -> datetime:
        """Return when the first call is due: after the phase's share of its period, or with the last one before."""
        first = now + every * phase
        if self._shortest is None or every < self._shortest[1]:
            self._shortest = first, every
        begin, shortest = self._shortest
        return first - (first - begin) % shortest

    def clock_jumped(self, by_s: float) -> None:
        """Tick now, and schedule the next ticks by the present clock."""
        del by_s
        now = datetime.now(UTC)  # noqa: TID251 - the scheduler's clock
        self._shortest = None
        for job in sorted(self._scheduler.get_jobs(), key=lambda job: job.trigger.interval):
            job.modify(next_run_time=self._begins(now, job.trigger.interval, self._phase))

    async def _call(self, work: Callable[..., Awaitable[None]], *arguments: object) -> None:
        await work(*arguments)

    def _failed(self, event: JobExecutionEvent) -> None:
        # APScheduler has logged it, with its traceback.
        if not isinstance(event.exception, asyncio.CancelledError):
            self.failures += 1
