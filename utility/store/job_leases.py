"""The ``period`` table: which periods of jobs are due, running and done.

Several processes may share the table. A job runs under a lease of its period: the process that raises ``attempts`` has
the lease, and renews it while it works. If the process dies, the lease expires, and another attempt begins. Only the
latest attempt can mark its period as done, so a period has one result.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, func, or_, select

from commonwatt.model.exceptions import StoreError
from commonwatt.model.units import EpochSeconds
from utility.jobs.calendar_periods import Cadence, Period, lacking
from utility.store.database import insert_or
from utility.store.tables import period

LEASE_S = 60
"""Clock seconds until a lease expires without a renewal."""


class LeaseLostError(StoreError):
    """Another attempt has the period; this attempt's changes must be rolled back."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One attempt at one period of a job.

    Attributes:
        job: The job's name.
        period: The period.
        attempt: The attempt's number, from 1.
        now: The attempt's start.
    """

    job: str
    period: Period
    attempt: int
    now: EpochSeconds


def take(connection: Connection, job: str, cadence: Cadence, now: EpochSeconds, *, catch_up: bool) -> Turn | None:
    """Add the periods missing until ``now``; take the lease of the oldest unfinished one, if it is due and free."""
    for_job = period.c.job == job
    row = connection.execute(select(period).where(for_job).order_by(period.c.start.desc()).limit(1)).first()
    known = [] if row is None else [Period(start=row.start, end=row.until, name=row.name)]
    new = lacking(cadence, known[0] if known else None, now, catch_up=catch_up)
    if not catch_up:
        is_another = period.c.start != (new or known)[0].start
        # A period that is still running is deleted after its end.
        connection.execute(period.delete().where(for_job, is_another, period.c.done.is_not(None) | _is_idle(now)))
    if new:
        connection.execute(insert_or(connection, period).on_conflict_do_nothing(), _rows(job, new, catch_up=catch_up))
    is_open = period.c.done.is_(None)
    row = connection.execute(select(period).where(for_job, is_open).order_by(period.c.start).limit(1)).first()
    if row is None or row.due > now:
        return None
    # Another process may have taken the lease since the read.
    is_it = for_job & (period.c.start == row.start) & (period.c.attempts == row.attempts)
    claim = period.update().where(is_it, is_open, _is_idle(now))
    taken = connection.execute(claim.values(attempts=row.attempts + 1, lease_until=now + LEASE_S))
    found = Period(start=row.start, end=row.until, name=row.name)
    return Turn(job=job, period=found, attempt=row.attempts + 1, now=now) if taken.rowcount else None


def renew(connection: Connection, turn: Turn, now: EpochSeconds) -> None:
    """Extend the lease to ``LEASE_S`` from ``now``.

    Raises:
        LeaseLostError: Another attempt has the period.
    """
    _require(connection, turn, lease_until=now + LEASE_S)


def give_back(connection: Connection, turn: Turn) -> None:
    """End a failed attempt; the next may begin at once."""
    connection.execute(period.update().where(*_of(turn)).values(lease_until=None))


def mark_done(connection: Connection, turn: Turn, now: EpochSeconds) -> None:
    """Mark a period as done; a repetition by the same attempt changes nothing.

    A job that writes to this database calls it in the transaction of its result: both are committed, or neither.

    Raises:
        LeaseLostError: Another attempt has the period.
    """
    _require(connection, turn, lease_until=None, done=func.coalesce(period.c.done, now))


def counts(connection: Connection, now: EpochSeconds) -> Mapping[str, tuple[int, int]]:
    """Return by job how many periods are due and not done, and how many of them were tried and are not running."""
    failed = (period.c.attempts > 0) & _is_idle(now)
    statement = (
        select(period.c.job, func.count(), func.count().filter(failed))
        .where(period.c.done.is_(None), period.c.due <= now)
        .group_by(period.c.job)
    )
    return {job: (due, tried) for job, due, tried in connection.execute(statement)}


def newest_periods(connection: Connection, limit: int, now: EpochSeconds) -> list[dict[str, object]]:
    """Return the newest periods, for people; unfinished ones first."""
    is_done = period.c.done.is_not(None)
    statement = select(period, _is_idle(now).label("idle")).order_by(is_done, period.c.start.desc(), period.c.job)
    return [
        {
            "job": row.job,
            "period": row.name,
            "start": row.start,
            "until": row.until,
            "due": row.due,
            "state": _state(row.done, row.due, row.attempts, now, idle=row.idle),
            "attempts": row.attempts,
            "done": row.done,
        }
        for row in connection.execute(statement.limit(limit))
    ]


def _state(done: int | None, due: int, attempts: int, now: EpochSeconds, *, idle: bool) -> str:
    if done is not None:
        return "done"
    if not idle:
        return "running"
    if attempts:
        return "failed"
    return "due" if due <= now else "to come"


def _rows(job: str, new: Iterable[Period], *, catch_up: bool) -> list[dict[str, object]]:
    return [
        {
            "job": job,
            "start": one.start,
            "until": one.end,
            "due": one.end if catch_up else one.start,
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
    return (
        period.c.job == turn.job,
        period.c.start == turn.period.start,
        period.c.attempts == turn.attempt,
    )


def _require(connection: Connection, turn: Turn, **values: object) -> None:
    if connection.execute(period.update().where(*_of(turn)).values(**values)).rowcount == 0:
        raise LeaseLostError(f"job {turn.job}, period {turn.period.name}: another attempt has the lease")
