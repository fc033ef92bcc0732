"""The ``period`` table: which periods of jobs are due, running and done.

Several processes may share the table. A job runs under a lease of its period: the process that raises ``attempts`` has
the lease, and renews it while it works. If the process dies, the lease expires, and another attempt begins. Only the
latest attempt can mark its period as done, so a period has one result.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, or_, select

from commonwatt.model.exceptions import CommonwattError, StoreError
from commonwatt.model.units import EpochSeconds
from utility.database.database import insert_or, upsert
from utility.jobs.calendar_periods import Period, lacking
from utility.jobs.plans import Plan
from utility.jobs.tables import job as job_table
from utility.jobs.tables import period

LEASE_S = 60  # clock seconds until a lease expires without a renewal


QUICK_ATTEMPTS = 3
"""Attempts at a period that follow each other at once; each later one waits twice as long as the one before."""

FIRST_BACKOFF_S = 60
LAST_BACKOFF_S = 3_600

MAX_WORDS = 500  # most characters of an error or of a reason to wait


class LeaseLostError(StoreError):
    """Another attempt has the period; this attempt's changes must be rolled back."""


class NotYetError(CommonwattError):
    """A period can't be done yet, such as a month whose data is not final; no failure."""

    def __init__(self, words: str, until: EpochSeconds) -> None:
        super().__init__(words)
        self.until = until  # when to try again


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One attempt at one period of a job."""

    job: str  # the job's name
    period: Period  # the period
    attempt: int  # the attempt's number, from 1
    now: EpochSeconds  # the attempt's start


def take(connection: Connection, plan: Plan, now: EpochSeconds) -> Turn | None:
    """Add the periods missing until ``now``; take the lease of the oldest unfinished one, if it is due and free."""
    for_job = period.c.job == plan.name
    row = connection.execute(select(period).where(for_job).order_by(period.c.start.desc()).limit(1)).first()
    known = [] if row is None else [Period(start=row.start, end=row.until, name=row.name)]
    newest = known[0] if known else None
    new = lacking(plan.cadence, newest, now, catch_up=plan.catch_up, from_previous=plan.from_previous)
    if not plan.catch_up:
        is_another = period.c.start != (new or known)[0].start
        # A period that is still running is deleted after its end.
        connection.execute(period.delete().where(for_job, is_another, period.c.done.is_not(None) | _is_idle(now)))
    if new:
        connection.execute(insert_or(connection, period).on_conflict_do_nothing(), _rows(plan, new))
    is_open = period.c.done.is_(None)
    row = connection.execute(select(period).where(for_job, is_open).order_by(period.c.start).limit(1)).first()
    if row is None or row.due > now:
        return None
    # Another process may have taken the lease since the read.
    is_it = for_job & (period.c.start == row.start) & (period.c.attempts == row.attempts)
    claim = period.update().where(is_it, is_open, _is_idle(now))
    taken = connection.execute(claim.values(attempts=row.attempts + 1, lease_until=now + LEASE_S))
    found = Period(start=row.start, end=row.until, name=row.name)
    return Turn(job=plan.name, period=found, attempt=row.attempts + 1, now=now) if taken.rowcount else None


def renew(connection: Connection, turn: Turn, now: EpochSeconds) -> None:
    """Extend the lease to ``LEASE_S`` from ``now``.

    Raises:
        LeaseLostError: Another attempt has the period.
    """
    _require(connection, turn, lease_until=now + LEASE_S)


def give_back(connection: Connection, turn: Turn, now: EpochSeconds, words: str) -> None:
    """End a failed attempt, and keep why; the next one may begin at once, after several failures later.

    A period that another attempt has is left to that one.
    """
    text = words[:MAX_WORDS]
    values = {"lease_until": None, "due": now + _backoff_s(turn.attempt), "error": text, "waits_for": None}
    if connection.execute(period.update().where(*_of(turn)).values(values)).rowcount:
        connection.execute(
            upsert(connection, job_table, "failed", "error"), {"name": turn.job, "failed": now, "error": text}
        )


def postpone(connection: Connection, turn: Turn, words: str, until: EpochSeconds) -> None:
    """End an attempt at a period that can't be done yet, and keep what it waits for."""
    values = {"lease_until": None, "due": until, "error": None, "waits_for": words[:MAX_WORDS]}
    connection.execute(period.update().where(*_of(turn)).values(values))


def finish(connection: Connection, turn: Turn, now: EpochSeconds, took_ms: int) -> None:
    """Mark a period as done as ``mark_done`` does, and keep how long the attempt took, in real milliseconds.

    Raises:
        LeaseLostError: Another attempt has the period.
    """
    mark_done(connection, turn, now)
    connection.execute(period.update().where(*_of(turn)).values(took_ms=took_ms))
    row = {"name": turn.job, "period": turn.period.name, "done": now, "took_ms": took_ms}
    connection.execute(upsert(connection, job_table, "period", "done", "took_ms"), row)


def mark_done(connection: Connection, turn: Turn, now: EpochSeconds) -> None:
    """Mark a period as done; a repetition by the same attempt changes nothing.

    A job that writes to this database calls it in the transaction of its result: both are committed, or neither.

    Raises:
        LeaseLostError: Another attempt has the period.
    """
    done = func.coalesce(period.c.done, now)
    _require(connection, turn, lease_until=None, done=done, error=None, waits_for=None)


def counts(connection: Connection, now: EpochSeconds) -> Mapping[str, tuple[int, int]]:
    """Return by job how many periods are due and not done, and how many of them were tried and are not running.

    Periods that wait for something are not due.
    """
    failed = (period.c.attempts > 0) & _is_idle(now)
    is_due = ((period.c.due <= now) | (period.c.attempts > 0)) & period.c.waits_for.is_(None)
    statement = (
        select(period.c.job, func.count(), func.count().filter(failed))
        .where(period.c.done.is_(None), is_due)
        .group_by(period.c.job)
    )
    return {job: (due, tried) for job, due, tried in connection.execute(statement)}


def newest_periods(
    connection: Connection, limit: int, now: EpochSeconds, job: str | None = None
) -> list[dict[str, object]]:
    """Return the newest periods of a job, or of all, for people; unfinished ones first."""
    statement = select(period).order_by(period.c.done.is_not(None), period.c.start.desc(), period.c.job)
    if job is not None:
        statement = statement.where(period.c.job == job)
    return [
        {name: getattr(row, name) for name in ("job", "start", "until", "due", "attempts", "done", "took_ms")}
        | {
            "period": row.name,
            "state": "done" if row.done is not None else state_of(row, now),
            "why": row.waits_for or row.error,
        }
        for row in connection.execute(statement.limit(limit))
    ]


def state_of(row: Any, now: EpochSeconds) -> str:
    """Return the state of a period that is not done."""
    if row.lease_until is not None and now < row.lease_until <= now + LEASE_S:
        return "running"
    if row.waits_for is not None:
        return "waiting"
    if row.attempts:
        return "failed"
    return "due" if row.due <= now else "to come"


def _backoff_s(attempts: int) -> int:
    """Return how long the next attempt waits after so many."""
    later = attempts - QUICK_ATTEMPTS
    return 0 if later < 0 else min(LAST_BACKOFF_S, FIRST_BACKOFF_S << min(later, 8))


def _rows(plan: Plan, new: Iterable[Period]) -> list[dict[str, object]]:
    return [
        {
            "job": plan.name,
            "start": one.start,
            "until": one.end,
            "due": plan.due(one.start, one.end),
            "name": one.name,
            "attempts": 0,
        }
        for one in new
    ]


def _is_idle(now: EpochSeconds) -> ColumnElement[bool]:
    """Return the condition that no lease is valid; one that ends later than ``LEASE_S`` from now is a wrong clock's."""
    lease = period.c.lease_until
    return or_(lease.is_(None), lease <= now, lease > now + LEASE_S)


def _of(turn: Turn) -> tuple[ColumnElement[bool], ...]:
    return period.c.job == turn.job, period.c.start == turn.period.start, period.c.attempts == turn.attempt


def _require(connection: Connection, turn: Turn, **values: object) -> None:
    if connection.execute(period.update().where(*_of(turn)).values(**values)).rowcount == 0:
        raise LeaseLostError(f"job {turn.job}, period {turn.period.name}: another attempt has the lease")
