"""A process that runs one job on a database, for tests that kill it.

Arguments: URL ORIGIN MONOTONIC_ORIGIN SPEED POINT LINES. The job, one period a clock minute, adds a row to the table
``result``. The process prints ``ready`` and begins when the named pipe LINES brings a line. It prints each step
(``begin``, ``write``, ``done``, ``failed``) with the period's start. At POINT of its first period it waits for another
line, or its end.
"""

import asyncio
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TextIO

from sqlalchemy import BigInteger, Column, Integer, MetaData, Table

from commonwatt.runtime.clock import Clock
from commonwatt.runtime.ticker import Ticker
from utility.database.database import Database, open_database
from utility.jobs.plans import Plan, Seconds
from utility.jobs.runner import Job, Schedule
from utility.jobs.store import Turn, mark_done

RESULT = Table(
    "result",
    MetaData(),
    Column("no", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("start", BigInteger, nullable=False),
)
"""Its only key is a number, so that a repeated result shows as a second row."""

PERIOD_S = 60

TICK_S = 0.05  # real seconds between two ticks


class Worker:
    """The job of one process, and its schedule."""

    def __init__(self, database: Database, clock: Clock, point: str, lines: TextIO) -> None:
        self._lines = lines
        self._database = database
        self._clock = clock
        self._point = point
        self._thread = ThreadPoolExecutor(1)
        plan = Plan(name="results", does="", cadence=Seconds(PERIOD_S), catch_up=True)
        self._schedule = Schedule(
            table=(Job(plan=plan, run=self._run),),
            database=database,
            clock=clock,
            in_thread=self._in_thread,
            failed=lambda *_: print("failed", flush=True),
        )

    async def tick(self) -> None:
        """Run the due periods."""
        await self._schedule.tick(is_trusted=True)

    async def _in_thread(self, work: Callable[..., Any], *arguments: object) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    async def _run(self, turn: Turn) -> None:
        # On another thread, so that the lease is renewed while it waits.
        await asyncio.to_thread(self._reach, "begin", turn)
        await asyncio.to_thread(self._write, turn)
        await asyncio.to_thread(self._reach, "done", turn)

    def _write(self, turn: Turn) -> None:
        with self._database.writes.begin() as connection:
            connection.execute(RESULT.insert().values(start=turn.period.start))
            mark_done(connection, turn, int(self._clock.now()))
            self._reach("write", turn)

    def _reach(self, point: str, turn: Turn) -> None:
        print(point, turn.period.start, flush=True)
        if point == self._point:
            self._point = ""
            self._lines.readline()


async def _work(url: str, origin: str, monotonic_origin: str, speed: str, point: str, lines: str) -> None:
    clock = Clock(origin=float(origin), monotonic_origin=float(monotonic_origin), speed=float(speed))
    database = open_database(url, create=False)
    print("ready", flush=True)
    pipe = await asyncio.to_thread(Path(lines).open)
    await asyncio.to_thread(pipe.readline)
    worker = Worker(database, clock, point, pipe)
    ticker = Ticker()
    ticker.every("jobs", TICK_S, worker.tick)
    ticker.start()
    await asyncio.Event().wait()


def main() -> None:
    """Run the job until killed."""
    asyncio.run(_work(*sys.argv[1:]))
