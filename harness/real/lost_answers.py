"""A line to a PostgreSQL server whose answer to a chosen COMMIT is lost."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import psycopg
import pytest
from sqlalchemy import func, select

from harness.network.fates import Way
from harness.network.proxy import Proxy
from utility.database.database import Database, open_database
from utility.database.postgres import commits
from utility.database.postgres.commits import CommittingConnection
from utility.database.tables import setting

_HAS_WRITTEN = (
    "SELECT count(*) > 0 FROM pg_locks WHERE pid = pg_backend_pid() AND mode = 'RowExclusiveLock' "
    "AND relation = %s::regclass"
)
_COMMIT_S, _LOOK_S = 0.3, 1.0


class Fate(Enum):
    """What becomes of a commit whose answer is lost."""

    FOUND = "it was committed, and the server says so over a new connection"
    UNKNOWN = "it was committed, and no lookup can tell"
    REFUSED = "it never arrived, and the server says so"


@dataclass
class Line:
    """The line, and what happens to the next commit."""

    proxy: Proxy
    database: Database
    fault: Callable[[], object] | None = None  # done just before the next COMMIT is sent
    table: str | None = None  # the table that its transaction must have written; ``None``: any will do
    cuts: int = 0
    restored: list[Callable[[], object]] = field(default_factory=list)  # done when the line was cut

    def lose(self, table: str, fate: Fate, monkeypatch: pytest.MonkeyPatch) -> None:
        """Lose the answer to the next commit that writes to a table."""
        self.table = table
        if fate is Fate.REFUSED:
            self.fault = self.proxy.cut
            return
        self.fault, self.restored = (lambda: self.proxy.darken(Way.DOWN)), [self.proxy.heal]
        if fate is Fate.UNKNOWN:
            monkeypatch.setattr(commits, "_PLACE", "SELECT random()")  # As if the server was another one each time.

    def strike(self, connection: psycopg.Connection[Any]) -> None:
        """Do what is to happen before this commit."""
        if self.fault is None or (self.table and not _has_written(connection, self.table)):
            return
        fault, self.fault = self.fault, None
        fault()

    def commit(self, key: str) -> None:
        """Write a row."""
        with self.database.writes.begin() as connection:
            connection.execute(setting.insert().values(key=key, value="x"))

    def count(self, key: str) -> int:
        """Return how many such rows there are."""
        with self.database.reads.begin() as connection:
            return connection.execute(select(func.count()).where(setting.c.key == key)).scalar_one()


@contextmanager
def lossy_line(url: str, port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    """Open a database through a line to the server at ``port``; a lost answer is missed after a moment."""
    monkeypatch.setattr(commits, "COMMIT_S", _COMMIT_S)
    monkeypatch.setattr(commits, "LOOK_S", _LOOK_S)
    with Proxy(("127.0.0.1", port)) as proxy:
        through = url.replace(str(port), proxy.address.rpartition(":")[2])
        # The proxy passes on nothing of one byte, as the answer to an offer of TLS.
        database = open_database(f"{through}?sslmode=disable&gssencmode=disable", create=True)
        made = Line(proxy, database)
        commit, real = psycopg.Connection.commit, CommittingConnection.cut

        def struck(self: psycopg.Connection[Any]) -> None:
            made.strike(self)
            commit(self)

        def cut(self: CommittingConnection) -> None:
            real(self)
            made.cuts += 1
            for each in made.restored:
                each()

        monkeypatch.setattr(psycopg.Connection, "commit", struck)
        monkeypatch.setattr(CommittingConnection, "cut", cut)
        yield made
        proxy.heal()
        database.close()


def _has_written(connection: psycopg.Connection[Any], table: str) -> bool:
    row = connection.execute(_HAS_WRITTEN, (table,)).fetchone()
    return row is not None and bool(row[0])
