"""Runs a table of jobs: each period of each job once, in order, as the database's ``period`` table records them.

Each period has one result after a missed tick, a restart, a second process on the same database or a crash in the
middle of a job, if the job writes its result in the transaction of ``mark_done``, or if a repeated run changes nothing.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from commonwatt.runtime.clock import Clock
from utility.jobs.calendar_periods import Cadence
from utility.store.database import Database
from utility.store.job_leases import LEASE_S, Turn, give_back, mark_done, renew, take

MAX_AT_ONCE = 100
"""Most missed periods of a job that one tick makes up for; the jobs take turns."""

_SHORTEST_RENEW_S = 0.2

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job.

    Attributes:
        name: The job's name in the ``period`` table, at most 32 characters.
        cadence: Defines the periods; the job runs once for each.
        catch_up: Whether missed periods are made up for, in order, each after its end. Such a job waits for a trusted
            clock. Else only the present period is run, at its beginning.
        run: The work; it calls ``mark_done`` in the transaction of its result, or may safely be repeated.
        frees_disk: Whether the job also runs with a full disk.
    """

    name: str
    cadence: Cadence
    catch_up: bool
    run: Callable[[Turn], Awaitable[None]]
    frees_disk: bool = False


class Schedule:
    """Runs the due jobs of a table.

    Args:
        table: The jobs.
        database: The database with their periods.
        clock: The service's clock.
        in_thread: Runs a function on the writing thread.
        failed: Called for each failed attempt; the next tick tries again.
    """

    def __init__(
        self,
        table: Sequence[Job],
        database: Database,
        clock: Clock,
        in_thread: Callable[..., Awaitable[Any]],
        failed: Callable[[Job, Exception], object],
    ) -> None:
        self._table = table
        self._database = database
        self._clock = clock
        self._in_thread = in_thread
        self._failed = failed

    async def tick(self, *, is_trusted: bool, is_full: bool = False) -> None:
        """Run the due jobs.

        Args:
            is_trusted: Whether the clock is trusted; else jobs that catch up wait.
            is_full: Whether the disk is full; then only jobs that free space run.
        """
        jobs: Iterable[Job] = [
            job for job in self._table if (is_trusted or not job.catch_up) and (job.frees_disk or not is_full)
        ]
        for _ in range(MAX_AT_ONCE):
            jobs = [job for job in jobs if await self._do_one(job) and job.catch_up]

    async def _do_one(self, job: Job) -> bool:
        """Run a job for its oldest due period; return whether one was done."""
        turn = None
        try:
            turn = await self._in_thread(self._take, job)
            if turn is not None:
                await self._run(job, turn)
                await self._in_thread(self._write, mark_done, turn, int(self._clock.now()))
        # An error in one job must not stop the others.
        except Exception as error:
            self._failed(job, error)
            if turn is not None:
                with suppress(SQLAlchemyError):
                    await self._in_thread(self._write, give_back, turn)
            return False
        return turn is not None

    async def _run(self, job: Job, turn: Turn) -> None:
        """Run a job, and renew its lease meanwhile.

        Raises:
            LeaseLostError: Another process has taken the period; the job was stopped.
        """
        running = asyncio.ensure_future(job.run(turn))
        every_s = max(_SHORTEST_RENEW_S, LEASE_S / 3 / max(1.0, self._clock.speed))
        try:
            while not (await asyncio.wait({running}, timeout=every_s))[0]:
                try:
                    await self._in_thread(self._write, renew, turn, int(self._clock.now()))
                except SQLAlchemyError as error:
                    log.warning("job %s: its lease could not be renewed: %s", job.name, error)
            await running
        finally:
            if running.cancel():
                await asyncio.wait({running})

    def _take(self, job: Job) -> Turn | None:
        with self._database.writes.begin() as connection:
            return take(connection, job.name, job.cadence, int(self._clock.now()), catch_up=job.catch_up)

    def _write(self, change: Callable[..., object], *arguments: object) -> None:
        with self._database.writes.begin() as connection:
            change(connection, *arguments)
