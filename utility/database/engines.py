"""Engines that connect to a database, SQLite or a server, and the locks that two transactions can't have at once."""

import sqlite3
from enum import IntEnum
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import OperationalError

from commonwatt.model.exceptions import ConfigError
from commonwatt.sqlite import write_log_again

BUSY_TIMEOUT_MS = 5_000  # longest wait of a transaction for another process's
# Most connections besides the five that stay open: requests, streams and jobs use up to about 22 at once.
MAX_OVERFLOW = 20
_APPLICATION = "commonwatt utility"  # name that the connections of the service and its commands have at a server
# Execution option of statements whose results a server returns in its binary format: as text a payload is twice as
# long. SQLite ignores it.
BINARY = "commonwatt_binary"

SERVER_TIMEOUTS: dict[str, str | int] = {
    "connect_timeout": 10,
    "tcp_user_timeout": 20_000,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "options": "-c lock_timeout=20s",
}
"""Timeouts after which a server without an answer is an error, before a watchdog ends the process.

In libpq's names: seconds to connect; milliseconds until sent data must be acknowledged; seconds without data until a
keepalive probe, seconds between probes, and their number; a statement's longest wait for another's lock.
"""


def make_engine(url: URL) -> Engine:
    """Return the engine of a database.

    Raises:
        ConfigError: The database's driver is not installed.
    """
    sqlite_url = url.get_backend_name() == "sqlite"
    try:
        # Errors are logged; their statements may have secrets and readings as parameters.
        engine = _file_engine(url) if sqlite_url else _server_engine(url)
    except ImportError as error:
        raise ConfigError(f"database: its driver is not installed: {error}") from error
    if sqlite_url:
        transactions = _Transactions(Path(str(url.database)))
        event.listen(engine, "connect", _set_pragmas)
        event.listen(engine, "begin", transactions.begin)
        event.listen(engine, "engine_disposed", transactions.closed)
    return engine


def _file_engine(url: URL) -> Engine:
    # A database in memory has one connection.
    options = {"max_overflow": MAX_OVERFLOW} if url.database not in (None, "", ":memory:") else {}
    return create_engine(url, hide_parameters=True, **options)


def _server_engine(url: URL) -> Engine:
    arguments = {word: value for word, value in SERVER_TIMEOUTS.items() if word not in url.query}
    engine = create_engine(
        url,
        # Each transaction reads one state of the database, as on SQLite.
        isolation_level="REPEATABLE READ",
        connect_args=arguments | {"application_name": _APPLICATION},
        max_overflow=MAX_OVERFLOW,
        hide_parameters=True,
    )
    # Loaded here: an installation with SQLite needs no driver of a server.
    from psycopg.pq import Format

    from utility.database.postgres.commits import look_at_commits

    def choose_format(_c: Connection, cursor: Any, _s: str, _v: object, context: Any, _m: bool) -> None:
        if context is not None and context.execution_options.get(BINARY):
            cursor.format = Format.BINARY

    event.listen(engine, "before_cursor_execute", choose_format)
    look_at_commits(engine)
    return engine


class _Transactions:
    """Begins transactions; the first writing one of a new or reopened engine writes SQLite's log to disk again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._is_certain = False

    def begin(self, connection: Connection) -> None:
        """Begin a transaction, as a writer if it writes: a reader can't write once another process has written."""
        writes = connection.get_execution_options().get("commonwatt_writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
        if writes and not self._is_certain:
            try:
                write_log_again(self._path)
            except sqlite3.OperationalError as error:
                raise OperationalError("write the log again", None, error) from error
            self._is_certain = True

    def closed(self, _: Engine) -> None:
        """Record that the connections were closed."""
        self._is_certain = False


def writing(engine: Engine) -> Engine:
    """Return the engine for transactions that write."""
    if engine.dialect.name == "sqlite":
        return engine.execution_options(commonwatt_writes=True)
    # Writers append concurrently; none should fail because another was faster.
    return engine.execution_options(isolation_level="READ COMMITTED")


def _set_pragmas(connection: Any, _: object) -> None:
    # The driver must not begin transactions by itself: _Transactions chooses their kind.
    connection.isolation_level = None
    # One damaged character must not make its row unreadable; important values have a checksum.
    connection.text_factory = lambda data: data.decode(errors="replace")
    cursor = connection.cursor()
    for pragma in (
        f"busy_timeout = {BUSY_TIMEOUT_MS}",
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


class Lock(IntEnum):
    """What is locked; the value is the number that all processes use, also those of earlier releases."""

    LEDGER = 0x43570010  # new entries of the ledger: their numbers grow in the order of their commits
    PARTITIONS = 0x43570001  # making partitions: the second of two processes finds the first one's
    GAPS = 0x43570002  # changes of several gaps: threads change them in different orders, and could deadlock
    SCHEMA = 0x43570003  # making or changing the tables
    REGISTRY = 0x43570004  # changes of the registry's dates
    SETTLED = 0x43570008  # appending settled versions: their numbers grow in the order of their commits
    STATISTICS = 0x43570009  # writing statistics: the readings of batteries are updated in place
    STEPS = 0x4357000A  # steps of corrections: their numbers grow in the order of their commits
    RELEASES = 0x4357000B  # new releases for research
    CHANGES = 0x4357000D  # new changes of settings
    TARIFFS = 0x43570164  # new versions of tariffs: each has its number
    PEOPLE = 0x43570168  # changes of people: two administrators can't remove each other at once


def take(connection: Connection, lock: Lock) -> None:
    """Wait for a lock, and hold it until the transaction ends."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": int(lock)})


def try_to_take(connection: Connection, lock: Lock) -> bool:
    """Take a lock until the transaction ends, without waiting; return whether it was free."""
    if connection.dialect.name != "postgresql":
        return True
    return bool(connection.execute(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": int(lock)}).scalar())
