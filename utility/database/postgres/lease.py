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
from contextlib import contextmanager
from typing import cast

import psycopg
from sqlalchemy import Connection, bindparam, event, select, text, update
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from commonwatt.config.database_url import parse_database
from commonwatt.model.exceptions import StoreError
from utility.database.database import Database, read_setting, save_setting
from utility.database.engines import make_engine, writing
from utility.database.postgres.commits import CommittingConnection
from utility.database.tables import setting

BEAT_S = 2.0  # real seconds between two beats, or two looks at them
EXPIRES_S = 10.0  # real seconds without a beat after which another utility takes the lease
OWN_EXPIRES_S = 4.0  # the same of a holder with our own name
ANSWER_S = 4.0  # longest wait for the server's answer to a beat, real seconds
WAITS_S = 5  # seconds for which a commit waits for the standby until no other begins

_LEASE = "lease"  # setting: the number and the holder, such as "7 utility-1"
_BEAT = "beat"  # setting: rises while the holder lives; empty: it gave the lease up

_HELD = (
    select(setting.c.key)
    .where((setting.c.key == _LEASE) & (setting.c.value == bindparam("held")))
    .with_for_update(read=True)
)
_LOCKED = select(setting.c.key, setting.c.value).where(setting.c.key.in_((_LEASE, _BEAT))).with_for_update()
_GIVE_UP = update(setting).where(setting.c.key == _BEAT).values(value="")
_WAITING = text(
    "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database() AND usename = current_user "
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
        time: Returns the time of a clock that never goes back, real seconds.
    """

    def __init__(self, url: str, name: str, time: Callable[[], float] = time.monotonic) -> None:
        self.number = 0  # the number under which this utility holds the lease; 0: it does not
        self.holder = ""  # who held it at the last look; empty: nobody
        self.waits = False  # whether commits wait for a synchronous standby
        self._name, self._time = name, time
        self._engine = make_engine(parse_database(url))
        self._beats, self._beaten_at = 0, time()
        self._seen, self._seen_since = ("", ""), time()
        self._open: weakref.WeakSet[CommittingConnection] = weakref.WeakSet()
        self._lock = threading.Lock()

    def is_current(self) -> bool:
        """Return whether no other utility can have taken it."""
        return self.number > 0 and self._time() - self._beaten_at < EXPIRES_S

    def guard(self, database: Database) -> None:
        """Make each writing transaction of a database read the lease, and watch where its connections lead."""
        database.is_active, database.waits = self.is_current, lambda: self.waits
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
                seen = read_setting(connection, _LEASE) or "", read_setting(connection, _BEAT) or ""
                self.holder = seen[0].partition(" ")[2]
                if self.number and seen[0] != self._held:
                    self.number = 0
                    raise LeaseTakenError(f"{self.holder} has become the active utility; started again, this one waits")
                if self.number:
                    self._beat(connection)
                    self._beaten_at = now
                self.waits = bool(connection.execute(_WAITING, {"least": WAITS_S}).scalar())
        except SQLAlchemyError:
            self._seen, self.waits = ("", ""), False
            self._engine.dispose()
            raise
        if seen != self._seen:
            self._seen, self._seen_since = seen, now
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
        """Take the lease as it was seen, unless the holder beats after all.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: It may be taken or not; the next look shows it.
        """
        # A process that is stopped within a transaction would hold the row for ever.
        with self._engine.begin() as connection:
            connection.execute(_END_SESSIONS, {"application": _application(self.holder)})
        with writing(self._engine).begin() as connection:
            rows = {row.key: row.value for row in connection.execute(_LOCKED)}
            if (rows.get(_LEASE, ""), rows.get(_BEAT, "")) != self._seen:
                return
            number = int(self._seen[0].partition(" ")[0] or 0) + 1
            save_setting(connection, _LEASE, f"{number} {self._name}")
            save_setting(connection, _BEAT, str(self._beats))
        self.number, self.holder, self._beaten_at = number, self._name, self._time()

    @contextmanager
    def _answering(self) -> Iterator[Connection]:
        """Connect to the primary; without an answer in time the connection ends, and those to another server do."""
        with writing(self._engine).connect() as connection:
            raw = cast("CommittingConnection", connection.connection.driver_connection)
            timer = threading.Timer(ANSWER_S, raw.cut)
            timer.daemon = True
            timer.start()
            try:
                yield connection
            finally:
                timer.cancel()
            self._leave_others(raw)

    def _leave_others(self, raw: CommittingConnection) -> None:
        with self._lock:
            others = [one for one in self._open if not one.closed and _server_of(one) != _server_of(raw)]
        for one in others:
            one.cut()

    def _connected(self, raw: CommittingConnection, _: object) -> None:
        raw.execute("SELECT set_config('application_name', %s, false)", (_application(self._name),))
        raw.commit()
        with self._lock:
            self._open.add(raw)

    def _require(self, connection: Connection) -> None:
        """Refuse a transaction that could not commit, or must not."""
        if self.waits:
            raise _refusal("commits wait for a synchronous standby")
        if connection.execute(_HELD, {"held": self._held}).first() is None:
            raise _refusal("this utility is not the active one any more")


def _application(name: str) -> str:
    """Return the name that sessions of a utility have at the server, at most 63 bytes."""
    return f"commonwatt utility {name}"[:63]


def _server_of(connection: CommittingConnection) -> tuple[str, int]:
    return connection.info.host, connection.info.port


def _refusal(words: str) -> OperationalError:
    return OperationalError(words, None, psycopg.OperationalError(words))
