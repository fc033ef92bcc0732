"""Commits on a PostgreSQL server: one without an answer is unknown, and is looked up over a new connection."""

import os
import socket
import time
from collections.abc import Callable
from contextlib import closing, suppress
from threading import Timer
from typing import Any

import psycopg
from psycopg import IsolationLevel
from psycopg.errors import Diagnostic
from psycopg.pq import TransactionStatus
from sqlalchemy import Engine, event

COMMIT_S = 10.0  # longest wait for the answer to a COMMIT, seconds
LOOK_S = 10.0  # longest wait until it is known what became of a commit without an answer
_AGAIN_S = 0.2  # seconds between two attempts to look
_CONNECT_S = 5  # longest wait for a new connection

_PLACE = "SELECT system_identifier, timeline_id FROM pg_control_system(), pg_control_checkpoint()"
_OWN = "SELECT pg_current_xact_id_if_assigned()::text"
_STATE = "SELECT pg_xact_status(%s::xid8)"


class UnknownCommitError(psycopg.OperationalError):
    """Whether the transaction was committed is unknown, or a synchronous standby may lack it."""


class CommittingConnection(psycopg.Connection[Any]):
    """A connection whose ``commit`` returns only if the transaction is known to be committed."""

    connect_again: Callable[[], psycopg.Connection[Any]]
    _place: tuple[Any, ...] | None = None
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
        timer = Timer(COMMIT_S, self._cut)
        timer.daemon = True
        timer.start()
        number = None
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
            timer.cancel()
        if self._warned:
            # Its wait for the standby was cancelled: a failover would lose it.
            self.close()
            raise UnknownCommitError("the commit is not known to be at the synchronous standby")

    def _number(self) -> str | None:
        """Return the transaction's number; ``None``: it wrote nothing."""
        row = self.execute(_OWN).fetchone()
        if row is None or row[0] is None:
            return None
        if self._place is None:
            self._place = self.execute(_PLACE).fetchone()
            self.add_notice_handler(self._notice)
        return str(row[0])

    def _notice(self, said: Diagnostic) -> None:
        self._warned = self._warned or said.severity_nonlocalized == "WARNING"

    def _cut(self) -> None:
        """End the connection at the socket, from another thread: the wait for the answer ends with an error."""
        with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(self.fileno())) as shared:
            shared.shutdown(socket.SHUT_RDWR)

    def _was_committed(self, number: str) -> bool:
        """Ask the server what became of a transaction.

        Raises:
            UnknownCommitError: It can't be asked, or is another one: numbers are given again after it went back.
        """
        end = time.monotonic() + LOOK_S
        while True:
            with suppress(psycopg.OperationalError), closing(self.connect_again()) as asking:
                if asking.execute(_PLACE).fetchone() != self._place:
                    break
                row = asking.execute(_STATE, (number,)).fetchone()
                state = None if row is None else row[0]
                if state in ("committed", "aborted"):
                    return bool(state == "committed")
            if time.monotonic() >= end:
                break
            time.sleep(_AGAIN_S)  # noqa: TID251 - the transaction's own thread waits for the server
        raise UnknownCommitError("the answer to a commit was lost, and whether it was committed is unknown")


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
