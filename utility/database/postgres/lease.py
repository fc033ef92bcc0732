"""The lease of the one active utility among several on a PostgreSQL database, and the loss of its server.

Two settings: the lease (a number, and whose it is), and the holder's beat. Each writing transaction of the holder reads
the lease ``FOR SHARE``. To take it, another utility changes that row, which waits for these transactions; afterwards
none of an earlier number commits, however long its process slept. A utility that stands by takes the lease when it saw
the same beat for ``EXPIRES_S`` by its own clock: no two clocks are compared, and while the database does not answer,
nobody takes it.

The connection for beats notices too that the primary is another server. A stopped machine goes on acknowledging
segments, so that statements sent to it would wait for ever.
"""

import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import cast

import psycopg
from sqlalchemy import Connection, bindparam, event, select, text, update
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from commonwatt.config.database_url import parse_database
from commonwatt.model.exceptions import StoreError
from commonwatt.runtime.watchdog import calling_after
from utility.database.base import setting
from utility.database.database import Database, insert_or, read_setting, save_setting
from utility.database.engines import make_engine, writing
from utility.database.postgres.commits import CommittingConnection

BEAT_S = 2.0  # real seconds between two beats, or two looks at them
EXPIRES_S = 10.0  # real seconds without a beat after which another utility takes the lease
OWN_EXPIRES_S = 4.0  # the same of a holder with our own name
ANSWER_S = 4.0  # longest wait for the server's answer to a beat, real seconds
TAKE_S = 30.0  # the same of all that taking the lease needs before its COMMIT
WAITS_S = 3  # seconds for which a commit waits for the standby until no other begins

_LEASE = "lease"  # setting: the number and the holder, such as "7 utility-1"
_BEAT = "beat"  # setting: rises while the holder lives; empty: it gave the lease up

_HELD = (
    select(setting.c.key)
    .where((setting.c.key == _LEASE) & (setting.c.value == bindparam("held")))
    .with_for_update(read=True)
)
_LOCKED = select(setting.c.key, setting.c.value).where(setting.c.key.in_((_LEASE, _BEAT))).with_for_update()
_GIVE_UP = update(setting).where(setting.c.key == _BEAT).values(value="")
_STATE = text(
    "SELECT (SELECT coalesce(max(pg_current_wal_lsn() - restart_lsn), 0) FROM pg_replication_slots) AS kept, "
    "count(*) > 0 AS waits FROM pg_stat_activity WHERE datname = current_database() AND usename = current_user "
    "AND wait_event = 'SyncRep' AND clock_timestamp() - query_start > make_interval(secs => :least)"
)
_END_SESSIONS = text(
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() "
    "AND usename = current_user AND pid <> pg_backend_pid() AND application_name = :application"
)


class LeaseTakenError(StoreError):
    """Another utility has taken the lease: this one must end."""


class Lease:
    """The lease, as one utility sees it. One thread calls ``look``.

    Args:
        url: The database.
        name: The utility's name, which no other one has.
        time: Returns the time of a clock that never goes back, real seconds; it counts while the machine is suspended.
    """

    def __init__(
        self, url: str, name: str, time: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME)
    ) -> None:
        self.number = 0  # the number under which this utility holds the lease; 0: it does not
        self.holder = ""  # who held it at the last look; empty: nobody
        self.waits = False  # whether commits wait for a synchronous standby
        self._name, self._time = name, time
        self._log_kept_bytes = 0
        self._engine = make_engine(parse_database(url))
        event.listen(self._engine, "connect", _end_if_stopped)
        self._beats, self._beaten_at = 0, time()
        self._seen, self._seen_since = ("", ""), time()
        self._open: weakref.WeakSet[CommittingConnection] = weakref.WeakSet()
        self._lock = threading.Lock()

    def is_current(self) -> bool:
        """Return whether no other utility can have taken it."""
        return self.number > 0 and self._time() - self._beaten_at < EXPIRES_S

    def guard(self, database: Database) -> None:
        """Make each writing transaction of a database read the lease, and watch where its connections lead."""
        # A look that hangs says nothing about commits any more.
        database.is_active, database.waits = self.is_current, lambda: self.waits and self.is_current()
        database.held, database.log_kept_bytes = lambda: self._held, lambda: self._log_kept_bytes
        database.disconnect()
        event.listen(database.reads, "connect", self._connected)
        event.listen(database.writes, "begin", self._require)

    def look(self) -> None:
        """Beat; or, standing by, look at the holder's beat, and take the lease if it is free.

        Raises:
            LeaseTakenError: Another utility has taken it.
            sqlalchemy.exc.SQLAlchemyError: The database does not answer.
        """
        try:
            with self._answering() as connection:
                now = self._time()
                seen = _seen(connection)
                self._leave_others(connection)
                self.holder = seen[0].partition(" ")[2]
                if self.number and seen[0] != self._held:
                    self.number, self.waits = 0, False
                    raise LeaseTakenError(f"{self.holder} has become the active utility; started again, this one waits")
                if self.number:
                    self._beat(connection)
                    self._beaten_at = now
                state = connection.execute(_STATE, {"least": WAITS_S}).one()
                self.waits, self._log_kept_bytes = state.waits, int(state.kept)
        except SQLAlchemyError:
            self._seen, self.waits = ("", ""), False
            self._engine.dispose()
            raise
        if seen != self._seen:
            self._seen, self._seen_since = seen, self._time()
        # The process before this one, or another utility with the same name by mistake.
        expires_s = OWN_EXPIRES_S if self.holder == self._name else EXPIRES_S
        is_free = not seen[1] or now - self._seen_since >= expires_s
        if not self.number and is_free:
            self._take()

    def give_up(self) -> None:
        """Let another utility take the lease at once.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: The database does not answer; the lease expires by itself.
        """
        try:
            if self.number:
                with self._answering() as connection:
                    if connection.execute(_HELD, {"held": self._held}).first() is not None:
                        connection.execute(_GIVE_UP)
                    connection.commit()
        finally:
            self.number = 0
            self._engine.dispose()

    @property
    def _held(self) -> str:
        return f"{self.number} {self._name}"

    def _beat(self, connection: Connection) -> None:
        # A beat that a failover loses is followed by another one; it waits for no standby.
        connection.execute(text("SET LOCAL synchronous_commit = local"))
        self._beats += 1
        save_setting(connection, _BEAT, str(self._beats))
        connection.commit()

    def _take(self) -> None:
        """Take the lease as it was seen, unless the holder beats after all."""
        began = self._time()
        number = int(self._seen[0].partition(" ")[0] or 0) + 1
        with writing(self._engine).connect() as connection:
            with calling_after(TAKE_S, _raw(connection).cut):
                if _seen(connection) != self._seen:
                    return
                # A process that is stopped within a transaction would hold the row for ever.
                connection.execute(_END_SESSIONS, {"application": _application(self.holder)})
                # Rows that are not there can't be locked: two could take the first lease at once.
                rows = [{"key": key, "value": ""} for key in (_LEASE, _BEAT)]
                connection.execute(insert_or(connection, setting).on_conflict_do_nothing(), rows)
                locked = {row.key: row.value for row in connection.execute(_LOCKED)}
                if (locked[_LEASE], locked[_BEAT]) != self._seen:
                    return
                save_setting(connection, _LEASE, f"{number} {self._name}")
                save_setting(connection, _BEAT, str(self._beats))
            connection.commit()
        self.number, self.holder, self._beaten_at, self.waits = number, self._name, began, False

    @contextmanager
    def _answering(self) -> Iterator[Connection]:
        """Connect to the primary; without its answers in time the connection ends: a stopped server never answers."""
        with writing(self._engine).connect() as connection, calling_after(ANSWER_S, _raw(connection).cut):
            yield connection
            connection.rollback()

    def _leave_others(self, connection: Connection) -> None:
        """End the connections to another server than the present primary, at whatever they wait."""
        here = _server_of(_raw(connection))
        with self._lock:
            every = list(self._open)
        for one in every:
            with suppress(psycopg.Error):  # Another thread closes it.
                if not one.closed and _server_of(one) != here:
                    one.cut()

    def _connected(self, raw: CommittingConnection, _: object) -> None:
        with self._lock:
            self._open.add(raw)
        raw.execute("SELECT set_config('application_name', %s, false)", (_application(self._name),))
        raw.commit()

    def _require(self, connection: Connection) -> None:
        """Refuse a transaction that could not commit, or must not."""
        if self.waits:
            raise _refusal("commits wait for a synchronous standby")
        _require_held(connection, self._held)


def fence(database: Database, held: str) -> None:
    """Make each writing transaction of another process's database read the lease that its parent holds."""
    event.listen(database.writes, "begin", lambda connection: _require_held(connection, held))


def _require_held(connection: Connection, held: str) -> None:
    if connection.execute(_HELD, {"held": held}).first() is None:
        raise _refusal("this utility is not the active one any more")


def _seen(connection: Connection) -> tuple[str, str]:
    """Return the lease and the beat; empty: there is none."""
    return read_setting(connection, _LEASE) or "", read_setting(connection, _BEAT) or ""


def _raw(connection: Connection) -> CommittingConnection:
    return cast("CommittingConnection", connection.connection.driver_connection)


def _end_if_stopped(raw: CommittingConnection, _: object) -> None:
    """Have the server end a transaction of the lease whose process is stopped: it holds the row of the beat."""
    raw.execute("SET idle_in_transaction_session_timeout = '4s'")
    raw.commit()


def _application(name: str) -> str:
    """Return the name that sessions of a utility have at the server, at most 63 bytes."""
    return f"commonwatt utility {name}"[:63]


def _server_of(connection: CommittingConnection) -> tuple[str, int]:
    return connection.info.host, connection.info.port


def _refusal(words: str) -> OperationalError:
    return OperationalError(words, None, psycopg.OperationalError(words))
