"""Runs a table of jobs: each period of each job once, in order, as the database's ``period`` table records them.

Each period has one result after a missed tick, a restart, a second process on the same database or a crash in the
middle of a job, if the job writes its result in the transaction of ``mark_done``, or if a repeated run changes nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from commonwatt.runtime.clock import Clock
from utility.database.base import SQLAlchemyError
from utility.database.database import Database
from utility.jobs.plans import Plan
from utility.jobs.store import LEASE_S, NotYetError, Turn, finish, give_back, plan_in_force, postpone, renew, take

MAX_AT_ONCE = 100  # most missed periods of a job that one tick makes up for; the jobs take turns

_SHORTEST_RENEW_S = 0.2


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job."""

    plan: Plan  # its name, its periods, and what a person may change
    # The work; it calls ``mark_done`` in the transaction of its result, or may safely be repeated. It raises
    # ``NotYetError`` if the period can't be done yet.
    run: Callable[[Turn], Awaitable[None]]

    @property
    def name(self) -> str:
        """The job's name in the tables."""
        return self.plan.name


@dataclass(eq=False)
class Schedule:
    """Runs the due jobs of a table."""

    table: Sequence[Job]  # the jobs
    database: Database  # the database of their periods
    clock: Clock  # the service's clock
    in_thread: Callable[..., Awaitable[Any]]  # runs a function on the writing thread
    failed: Callable[[Job, Exception], object]  # called for each failed attempt; the next tick tries again

    async def tick(self, *, is_trusted: bool, is_full: bool = False) -> None:
        """Run the due jobs.

        Args:
            is_trusted: Whether the clock is trusted; else jobs that catch up wait.
            is_full: Whether the disk is full; then only jobs that free space run.
        """
        jobs: Iterable[Job] = [
            job for job in self.table if (is_trusted or not job.plan.catch_up) and (job.plan.frees_disk or not is_full)
        ]
        for _ in range(MAX_AT_ONCE):
            jobs = [job for job in jobs if await self._do_one(job) and job.plan.catch_up]

    async def _do_one(self, job: Job) -> bool:
        """Run a job for its oldest due period; return whether one was done."""
        turn = None
        try:
            turn = await self.in_thread(self._take, job)
            if turn is not None:
                begun = self.clock.now()
                await self._run(job, turn)
                now = self.clock.now()
                took_ms = int(self.clock.real_s(now - begun) * 1000) if self.clock.speed else 0
                await self.in_thread(self.database.write, finish, turn, int(now), took_ms)
        except NotYetError as error:
            if turn is not None:
                await self._end(postpone, turn, str(error), error.until)
            return False
        # An error in one job must not stop the others.
        except Exception as error:
            self.failed(job, error)
            if turn is not None:
                await self._end(give_back, turn, int(self.clock.now()), words_of(error))
            return False
        return turn is not None

    async def _end(self, change: Callable[..., object], *arguments: object) -> None:
        """Record the end of an attempt; without it, the lease ends by itself."""
        with suppress(SQLAlchemyError):
            await self.in_thread(self.database.write, change, *arguments)

    async def _run(self, job: Job, turn: Turn) -> None:
        """Run a job, and renew its lease meanwhile."""
        running = asyncio.ensure_future(job.run(turn))
        every_s = max(_SHORTEST_RENEW_S, LEASE_S / 3 / max(1.0, self.clock.speed))
        try:
            while not (await asyncio.wait({running}, timeout=every_s))[0]:
                with suppress(SQLAlchemyError):  # The job's own writes fail, too, and say why; a lost lease is told.
                    await self.in_thread(self.database.write, renew, turn, int(self.clock.now()))
            await running
        finally:
            if running.cancel():
                await asyncio.wait({running})

    def _take(self, job: Job) -> Turn | None:
        with self.database.writes.begin() as connection:
            plan = plan_in_force(connection, job.plan)
            return None if plan is None else take(connection, plan, int(self.clock.now()))


def words_of(error: Exception) -> str:
    """Return an error in one line for people; of a database, what its driver reports."""
    why = getattr(error, "orig", None) or error
    return " ".join(f"{type(why).__name__}: {why}".split())
