"""Commits on a PostgreSQL server: one without an answer is unknown, and is looked up over a new connection."""

import os
import socket
import time
from collections.abc import Callable
from contextlib import closing, suppress
from threading import Event, Thread
from typing import Any

import psycopg
from psycopg import IsolationLevel
from psycopg.errors import Diagnostic
from psycopg.pq import TransactionStatus
from sqlalchemy import Engine, event

COMMIT_S = 10.0  # longest wait for the answer to a COMMIT, seconds, unless the server waits for its standby
LOOK_S = 10.0  # longest wait until it is known what became of a commit without an answer
_AGAIN_S = 0.2  # seconds between two attempts to look
_CONNECT_S = 5  # longest wait for a new connection

_PLACE = "SELECT system_identifier, timeline_id FROM pg_control_system(), pg_control_checkpoint()"
_OWN = "SELECT pg_current_xact_id_if_assigned()::text, current_setting('synchronous_standby_names') <> ''"
_STATE = "SELECT pg_xact_status(%s::xid8)"
_WAITS = "SELECT wait_event = 'SyncRep' FROM pg_stat_activity WHERE pid = %s"


class UnknownCommitError(psycopg.OperationalError):
    """Whether the transaction was committed is unknown, or a synchronous standby may lack it."""


class CommittingConnection(psycopg.Connection[Any]):
    """A connection whose ``commit`` returns only if the transaction is known to be committed."""

    connect_again: Callable[[], psycopg.Connection[Any]]
    _place: tuple[Any, ...] | None = None
    _has_standby = False  # whether the server waits for a synchronous standby at each commit
    _warned = False

    def commit(self) -> None:
        """Commit.

        Raises:
            UnknownCommitError: Nobody knows whether it was committed.
            psycopg.Error: It was not.
        """
        is_open = self.info.transaction_status is TransactionStatus.INTRANS
        # Transactions that only read have another isolation level.
        if not is_open or self.isolation_level is not IsolationLevel.READ_COMMITTED:
            super().commit()
            return
        number, ended = None, Event()
        Thread(target=self._watch, args=(ended,), daemon=True).start()
        try:
            number = self._number()
            self._warned = False
            super().commit()
        except psycopg.OperationalError as error:
            if number is None or not (error.sqlstate is None or error.sqlstate.startswith("57")):
                raise
            self.close()
            if not self._was_committed(number):
                raise
        finally:
            ended.set()
        if self._warned:
            # Its wait for the standby was cancelled: a failover would lose it.
            self.close()
            unknown = UnknownCommitError("the commit is not known to be at the synchronous standby")
            unknown.sqlstate = "40003"  # SQL's "statement completion unknown": the server itself answers
            raise unknown

    def _number(self) -> str | None:
        """Return the transaction's number; ``None``: it wrote nothing."""
        number, self._has_standby = self.execute(_OWN).fetchone() or (None, False)
        if number is None:
            return None
        if self._place is None:
            self._place = _place_of(self)
            self.add_notice_handler(self._notice)
        return str(number)

    def _notice(self, said: Diagnostic) -> None:
        self._warned = self._warned or said.severity_nonlocalized == "WARNING"

    def _watch(self, ended: Event) -> None:
        """End the wait for the answer to a COMMIT, unless the server answers that it waits for its standby."""
        # A connection that is ended meanwhile would leave a process of the server that waits on, and soon too many.
        pid = self.info.backend_pid
        while not ended.wait(COMMIT_S):
            waits = self._has_standby and self._waits_for_standby(pid)
            if not waits and not ended.is_set():
                self.cut()
                return

    def _waits_for_standby(self, pid: int) -> bool:
        with suppress(psycopg.OperationalError), closing(self.connect_again()) as asking:
            row = asking.execute(_WAITS, (pid,)).fetchone()
            return _place_of(asking) == self._place and row is not None and bool(row[0])
        return False

    def cut(self) -> None:
        """End the connection at the socket, from another thread: the wait for the answer ends with an error."""
        with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(self.fileno())) as shared:
            shared.shutdown(socket.SHUT_RDWR)

    def _was_committed(self, number: str) -> bool:
        """Ask the server what became of a transaction."""
        end = time.monotonic() + LOOK_S
        while True:
            with suppress(psycopg.OperationalError), closing(self.connect_again()) as asking:
                if _place_of(asking) != self._place:
                    break
                row = asking.execute(_STATE, (number,)).fetchone()
                state = None if row is None else row[0]
                if state == "committed" and self._has_standby:
                    break  # The standby may lack it, and would not have it after a failover.
                if state in ("committed", "aborted"):
                    return bool(state == "committed")
            if time.monotonic() >= end:
                break
            time.sleep(_AGAIN_S)  # noqa: TID251 - the transaction's own thread waits for the server
        raise UnknownCommitError("the answer to a commit was lost, and whether it was committed is unknown")


def _place_of(connection: psycopg.Connection[Any]) -> tuple[Any, ...]:
    """Return which server a connection leads to, and where it is in its history."""
    # A standby that was just promoted has the number of its timeline only after its first checkpoint.
    return connection.info.host, connection.info.port, *(connection.execute(_PLACE).fetchone() or ())


def look_at_commits(engine: Engine) -> None:
    """Make an engine's connections look what became of a commit without an answer."""

    def connect(_dialect: object, _record: object, words: list[Any], named: dict[str, Any]) -> CommittingConnection:
        # A timeout that cancels the wait for a synchronous standby would make a commit look like a success.
        named["options"] = f"{named.get('options', '')} -c statement_timeout=0"
        made = CommittingConnection.connect(*words, **named)
        again = named | {"connect_timeout": _CONNECT_S, "autocommit": True}
        made.connect_again = lambda: psycopg.connect(*words, **again)
        return made

    event.listen(engine, "do_connect", connect)
