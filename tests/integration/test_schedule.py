"""Two real processes run one job on one database, and are killed while it runs: each period has one result."""

import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from itertools import pairwise
from pathlib import Path
from typing import Self

import pytest
from sqlalchemy import select

from commonwatt.runtime.clock import Clock
from harness.network.waiting import eventually
from harness.real import forks
from harness.real.postgres import Postgres
from harness.real.scheduler import PERIOD_S, RESULT
from harness.surroundings import databases
from utility.database.database import Database, open_database

kind = databases.both_kinds

SPEED = 120
ORIGIN = 1_790_000_040 // PERIOD_S * PERIOD_S


class Process:
    """A process that runs the job; its output and its pipe are files in ``folder``."""

    def __init__(self, folder: Path, url: str, clock: Clock, point: str = "none") -> None:
        number = len(list(folder.glob("*.out")))
        self._out, lines = folder / f"{number}.out", folder / f"{number}.lines"
        os.mkfifo(lines)
        self._lines = os.open(lines, os.O_RDWR)
        arguments = (url, clock.origin, clock.monotonic_origin, clock.speed, point, lines)
        code = "from harness.real.scheduler import main; main()"
        self._process = forks.start([sys.executable, "-c", code, *map(str, arguments)], self._out, folder / "errors")

    @property
    def said(self) -> list[str]:
        """Its printed lines."""
        return self._out.read_text().splitlines()

    def reached(self, point: str) -> int:
        """Wait until it first reaches a point; return the start of the period."""
        eventually(lambda: [line for line in self.said if line.startswith(f"{point} ")])
        return int(next(line for line in self.said if line.startswith(f"{point} ")).split()[1])

    def begin(self) -> Self:
        """Start the run of the due periods."""
        eventually(lambda: "ready" in self.said)
        self.go_on()
        return self

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def go_on(self) -> None:
        os.write(self._lines, b"\n")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        os.close(self._lines)


@pytest.fixture
def url(kind: str, tmp_path: Path) -> Iterator[str]:
    with ExitStack() as stack:
        found = f"sqlite:///{tmp_path}/utility.db"
        if kind == "postgresql":
            found = stack.enter_context(Postgres(tmp_path)).url
        with closing(open_database(found, create=True)) as database, database.writes.begin() as connection:
            RESULT.create(connection)
        yield found


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    with closing(open_database(url, create=False)) as opened:
        yield opened


def results(database: Database) -> list[int]:
    """Return the starts of the periods with a result, in the order of writing."""
    with database.reads.begin() as connection:
        return list(connection.execute(select(RESULT.c.start).order_by(RESULT.c.no)).scalars())


def test_row_20_two_schedulers_are_killed_in_the_middle_of_a_job(url: str, database: Database, tmp_path: Path) -> None:
    clock = Clock(origin=ORIGIN, monotonic_origin=time.monotonic(), speed=SPEED)
    # Before its result; with its result in an open transaction; right after the commit.
    for point in ("begin", "write", "done"):
        with Process(tmp_path, url, clock) as other, Process(tmp_path, url, clock, point) as victim:
            eventually(lambda other=other: "ready" in other.said)  # type: ignore[misc]
            start = victim.begin().reached(point)
            other.begin()
            victim.kill()
            eventually(lambda start=start: start in results(database))  # type: ignore[misc]
            other.reached("done")

    # Paused until the other process takes its period over; then resumed.
    with Process(tmp_path, url, clock) as other, Process(tmp_path, url, clock, "begin") as paused:
        start = paused.begin().reached("begin")
        paused.signal(signal.SIGSTOP)
        other.begin()
        eventually(lambda: start in results(database))
        paused.go_on()
        paused.signal(signal.SIGCONT)
        eventually(lambda: "failed" in paused.said)

    # Two at a time; one of them is killed after any of the steps, again and again.
    rng = random.Random(20)
    with ExitStack() as stack:
        running = [stack.enter_context(Process(tmp_path, url, clock)).begin()]
        for _ in range(8):
            running.append(stack.enter_context(Process(tmp_path, url, clock)).begin())
            enough = sum(len(one.said) for one in running) + rng.randrange(1, 7)
            eventually(lambda enough=enough: sum(len(one.said) for one in running) >= enough)  # type: ignore[misc]
            running.pop(rng.randrange(2)).kill()

    # Both were off for two hours.
    clock.origin += 7_200
    missed = int(clock.now())
    with Process(tmp_path, url, clock) as one, Process(tmp_path, url, clock) as other:
        one.begin()
        other.begin()
        eventually(lambda: results(database)[-1] > missed)
    found = results(database)
    assert len(found) > 7_200 // PERIOD_S
    assert all(later - one == PERIOD_S for one, later in pairwise(found)), "each period once, in order, without a gap"
