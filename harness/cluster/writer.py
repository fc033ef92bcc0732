"""A client that commits numbered rows as Commonwatt does, and keeps what was acknowledged and when."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count, pairwise
from typing import Any, Self, cast

from sqlalchemy import Engine, make_url, text
from sqlalchemy.exc import DBAPIError

from commonwatt.runtime.watchdog import calling_after
from harness.cluster.machines import DATABASES, DatabaseMachines
from harness.network.waiting import eventually
from utility.database.engines import make_engine, writing
from utility.database.postgres.commits import CommittingConnection

_PAUSE_S = 0.02  # between two commits
PATIENCE_S = 12.0  # a transaction that takes longer is given up, seconds; longer than a commit's own limit
_TICK = threading.Event()
_ROW = text("INSERT INTO written (writer, number) VALUES (:writer, :number)")


def ask(machines: DatabaseMachines, *statements: str) -> list[Any]:
    """Run statements on the primary in one transaction; return the first column of the last one's rows."""

    def run() -> list[Any]:
        engine = make_engine(make_url(machines.url()))
        try:
            with writing(engine).begin() as connection:
                found = [connection.execute(text(statement)) for statement in statements][-1]
                return list(found.scalars()) if found.returns_rows else []
        finally:
            engine.dispose()

    return machines.inside("utility1", run)


def prepare(machines: DatabaseMachines) -> None:
    """Make the table of the rows."""
    ask(machines, "CREATE TABLE IF NOT EXISTS written (writer text, number bigint)")


@dataclass
class Writer:
    """Writes from a utility's machine from ``__enter__`` to ``__exit__``, one row a transaction."""

    machines: DatabaseMachines
    name: str  # the writer's mark in its rows
    url: str  # where it writes
    acknowledged: list[tuple[int, float]] = field(default_factory=list)  # numbers with their times, ``time.monotonic``
    errors: Counter[str] = field(default_factory=Counter)  # by their first words

    def __enter__(self) -> Self:
        self._end = threading.Event()
        self._thread = threading.Thread(target=self.machines.inside, args=("utility1", self._write), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _write(self) -> None:
        engine = writing(make_engine(make_url(self.url)))
        for number in count():
            if self._end.wait(_PAUSE_S):
                break
            try:
                self._commit(engine, number)
            except DBAPIError as error:
                self.errors[str(error.orig).partition("\n")[0][:80]] += 1
            else:
                self.acknowledged.append((number, time.monotonic()))
        engine.dispose()

    def _commit(self, engine: Engine, number: int) -> None:
        with engine.connect() as connection:
            driver = cast("CommittingConnection", connection.connection.driver_connection)
            # A stopped server's kernel goes on answering: nothing else ends the wait.
            with calling_after(PATIENCE_S, driver.cut):
                connection.execute(_ROW, {"writer": self.name, "number": number})
                connection.commit()

    def since(self, moment: float) -> int:
        """Return how many rows were acknowledged after a moment."""
        return sum(at > moment for _, at in self.acknowledged)

    def longest_gap_s(self, since: float, until: float) -> float:
        """Return the longest time without an acknowledgement between two moments."""
        moments = [since, *(at for _, at in self.acknowledged if since < at < until), until]
        return max(later - earlier for earlier, later in pairwise(moments))

    def lost(self) -> int:
        """Return how many acknowledged rows the database lacks."""
        name = self.name.replace("'", "''")
        stored = set(ask(self.machines, f"SELECT number FROM written WHERE writer = '{name}'"))
        return sum(number not in stored for number, _ in self.acknowledged)


@dataclass(frozen=True)
class Seen:
    """What a fault did to a writer."""

    gap_s: float  # longest time without an acknowledgement since the fault
    lost: int  # acknowledged rows that the database lacks
    errors: Counter[str]


def look(
    machines: DatabaseMachines, name: str, fault: Callable[[], object], mend: Callable[[], object], lasts_s: float
) -> Seen:
    """Write through a fault and its end, until the machines are settled again; return what was seen.

    Args:
        machines: The databases, settled.
        name: A name of its own for the rows.
        fault: Does it.
        mend: Ends it.
        lasts_s: Time from the one to the other.
    """
    with Writer(machines, name, machines.url()) as writer:
        eventually(lambda: len(writer.acknowledged) > 50)
        began = time.monotonic()
        fault()
        _TICK.wait(lasts_s)
        mend()
        machines.settle()
        mended = time.monotonic()
        eventually(lambda: writer.since(mended) > 20)
    return Seen(writer.longest_gap_s(began, time.monotonic()), writer.lost(), writer.errors)


def only(machines: DatabaseMachines, name: str) -> str:
    """Return the URL of one machine's database alone."""
    assert name in DATABASES
    hosts = ",".join(machines.addresses[each] for each in DATABASES)
    return machines.url().replace(hosts, machines.addresses[name]).replace("read-write", "any")
