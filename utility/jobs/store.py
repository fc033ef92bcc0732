"""SQL of the jobs: what is due, leases of periods, what people set, and the list of jobs for people.

Several processes may share the table of periods. A job runs under a lease of its period: the process that raises
``attempts`` has the lease, and renews it while it works. If the process dies, the lease expires, and another attempt
begins. Only the latest attempt can mark its period as done, so a period has one result.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel
from sqlalchemy import ColumnElement, Connection, Table, and_, bindparam, case, func, or_, select

from commonwatt.model.exceptions import CommonwattError, ConfigError, StoreError
from commonwatt.model.text import moment
from commonwatt.model.units import EpochSeconds
from utility.access.people import Actor
from utility.access.store.audit_log import record
from utility.database.base import read
from utility.database.database import Database, insert_or, upsert
from utility.database.town_zone import zone_of
from utility.jobs.plans import UNCHANGED, Period, Plan, PlanChange, Seconds, Why, lacking
from utility.jobs.tables import job, period, settlement_due
from utility.jobs.tables import job as job_table
from utility.webkit.columns import Shown, Time

Day = int  # days of UTC since 1970


@dataclass(frozen=True, kw_only=True)
class MarkedDay:
    """A microgrid's day that is due."""

    day: Day  # the day
    owner_no: int  # the number of the microgrid's controller
    marks: int  # how often it was marked


def mark(connection: Connection, table: Table, keys: Iterable[tuple[int, int]], why: Why | None = None) -> None:
    """Mark (day or quarter, controller's number) in a table of marks; of several reasons the highest stands."""
    statement = insert_or(connection, table)
    changed: dict[str, Any] = {"marks": table.c.marks + 1}
    if why is not None:
        old, new = table.c.why, statement.excluded.why
        changed["why"] = case((old > new, old), else_=new)
    again = statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=changed)
    row = {"marks": 1} if why is None else {"marks": 1, "why": int(why)}
    names = [column.name for column in table.primary_key]
    # In one order, so that two transactions never wait for each other.
    if rows := [dict(zip(names, key, strict=True)) | row for key in sorted(set(keys))]:
        connection.execute(again, rows)


def unmark(connection: Connection, table: Table, done: Iterable[object]) -> None:
    """Delete the marks that were read (the key and ``marks`` of each), unless they were marked again since."""
    names = [*(column.name for column in table.primary_key), "marks"]
    same = and_(*(table.c[name] == bindparam(f"read_{name}") for name in names))
    if rows := [{f"read_{name}": getattr(one, name) for name in names} for one in done]:
        connection.execute(table.delete().where(same), rows)


def mark_from(
    connection: Connection, table: Table, done: Table, firsts: Mapping[int, Day], why: Why | None = None
) -> None:
    """Mark the days of controllers in ``done``, each from its first one on; ``firsts``: by controller's number."""
    for owner, first in firsts.items():
        days = connection.execute(select(done.c.day).where(done.c.owner_no == owner, done.c.day >= first)).scalars()
        mark(connection, table, [(day, owner) for day in days], why)


def first_to_settle(connection: Connection, since: Day) -> Day | None:
    """Return the first day from ``since`` on that is marked to be settled; ``None``: there is none."""
    c = settlement_due.c
    found: Day | None = connection.execute(select(func.min(c.day)).where(c.day >= since)).scalar()
    return found


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


class PeriodAnswer(BaseModel):
    """A period of a job. `why`: why its last attempt failed, or what it waits for."""

    job: str
    period: str
    start: Time
    until: Time
    due: Time
    state: Literal["done", "running", "waiting", "failed", "due", "to come"]
    attempts: int
    done: Time | None
    took_ms: int | None
    why: str | None


def newest_periods(connection: Connection, limit: int, now: EpochSeconds, job: str | None = None) -> list[PeriodAnswer]:
    """Return the newest periods of a job, or of all, for people; unfinished ones first."""
    statement = select(period).order_by(period.c.done.is_not(None), period.c.start.desc(), period.c.job)
    if job is not None:
        statement = statement.where(period.c.job == job)
    return [
        PeriodAnswer(
            **{name: getattr(row, name) for name in ("job", "start", "until", "due", "attempts", "done", "took_ms")},
            period=row.name,
            state="done" if row.done is not None else state_of(row, now),
            why=row.waits_for or row.error,
        )
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


RUNS = ("period", "done", "took_ms", "failed", "error")  # what is stored of a job's runs


@dataclass(frozen=True, kw_only=True)
class JobState:
    """What is stored of a job."""

    change: PlanChange = UNCHANGED  # what a person set
    period: str | None = None  # the name of the last period that was done; ``None``: none was
    done: EpochSeconds | None = None  # when
    took_ms: int | None = None  # how long that took, real milliseconds
    failed: EpochSeconds | None = None  # when an attempt failed last; ``None``: none did
    error: str | None = None  # why


@dataclass(frozen=True, kw_only=True)
class OpenPeriod:
    """The oldest period of a job that is not done."""

    job: str  # the job's name
    start: EpochSeconds  # its first second
    until: EpochSeconds  # the second after its last
    name: str  # its name
    due: EpochSeconds  # when it is tried next, or first
    attempts: int  # how often it was tried
    lease_until: EpochSeconds | None  # until when a running attempt has it; ``None``: none runs
    waits_for: str | None  # what it waits for; ``None``: for its time, or for nothing
    over: int  # how many periods of the job are over and not done


def states(connection: Connection) -> dict[str, JobState]:
    """Return what is stored of the jobs, by name."""
    return {
        row["name"]: JobState(
            change=PlanChange(every_s=row["every_s"], minute=row["minute"], paused=row["paused"]),
            **{name: row[name] for name in RUNS},
        )
        for row in connection.execute(select(job)).mappings()
    }


def plan_in_force(connection: Connection, plan: Plan) -> Plan | None:
    """Return a job's plan with what a person set; ``None``: it is paused."""
    row = connection.execute(select(job.c.paused, job.c.every_s, job.c.minute).where(job.c.name == plan.name)).first()
    change = UNCHANGED if row is None else PlanChange(every_s=row.every_s, minute=row.minute)
    return plan.in_force(change, zone_of(connection)) if row is None or row.paused is None else None


def open_periods(connection: Connection, now: EpochSeconds) -> Mapping[str, OpenPeriod]:
    """Return the oldest period that is not done of each job that has one."""
    c = period.c
    over = func.count().filter(c.until <= now).label("over")
    first = select(c.job, func.min(c.start).label("first"), over)
    oldest = first.where(c.done.is_(None)).group_by(c.job).subquery()
    columns = c["job", "start", "until", "name", "due", "attempts", "lease_until", "waits_for"]
    statement = select(*columns, oldest.c.over).join(oldest, (oldest.c.job == c.job) & (oldest.c.first == c.start))
    return {one.job: one for one in read(OpenPeriod, connection.execute(statement))}


def newest_until(connection: Connection) -> dict[str, EpochSeconds]:
    """Return the end of each job's newest period."""
    statement = select(period.c.job, func.max(period.c.until)).group_by(period.c.job)
    return dict(connection.execute(statement).all())


def save_change(connection: Connection, plan: Plan, before: PlanChange, after: PlanChange) -> None:
    """Store what a person set for a job, in place of what was set before."""
    row = {"name": plan.name, "every_s": after.every_s, "minute": after.minute, "paused": after.paused}
    connection.execute(upsert(connection, job, "every_s", "minute", "paused"), row)
    if before.minute != after.minute:
        _set_due(connection, plan.in_force(after, zone_of(connection)))


def _set_due(connection: Connection, plan: Plan) -> None:
    """Give the periods that were not tried yet the times at which they are due by a changed plan."""
    c = period.c
    untried = (c.job == plan.name) & c.done.is_(None) & (c.attempts == 0)
    for row in connection.execute(select(c.start, c.until).where(untried)).all():
        due = plan.due(row.start, row.until)
        connection.execute(period.update().where(untried, c.start == row.start).values(due=due))


def ask_for(connection: Connection, name: str, now: EpochSeconds, *, again: bool) -> bool:
    """Have the next tick run a job's oldest open period; return whether there is one that no attempt is at work on.

    Args:
        name: The job's name.
        again: Whether to run the newest period again if all are done.
    """
    c = period.c
    mine = c.job == name
    start = connection.execute(select(func.min(c.start)).where(mine, c.done.is_(None))).scalar()
    if start is None and again:
        start = connection.execute(select(func.max(c.start)).where(mine)).scalar()
    free = c.lease_until.is_(None) | (c.lease_until <= now)
    values = {"done": None, "due": now, "waits_for": None}
    return bool(connection.execute(period.update().where(mine, c.start == start, free).values(values)).rowcount)


class JobAnswer(BaseModel):
    """A job. `open`: its periods that are due and not done; `late_s`: seconds by which it is late."""

    name: Annotated[str, Shown("Job")]
    also: tuple[str, ...]  # other names of it
    does: str
    every: Annotated[str, Shown("Every")]
    at: str  # the time of day at which it is due; empty: it runs at an interval
    changed: bool  # whether a person has set its interval or time of day
    state: Annotated[Literal["paused", "running", "waiting", "failed", "due", "ok"], Shown("State")]
    waits_for: str  # what its oldest open period waits for; empty: for nothing
    paused: Time | None  # since when it is paused
    next_due: Annotated[Time | None, Shown("Next")]  # when it is tried next; ``None``: unknown, since it never ran
    open: Annotated[int, Shown("Due")]
    late_s: Annotated[int, Shown("Late, s")]
    period: str | None  # the last period that was done
    done: Annotated[Time | None, Shown("Done")]
    took_ms: int | None  # how long that took, real milliseconds
    failed: Time | None  # when an attempt failed last
    error: Annotated[str | None, Shown("Last error")]


def listed(database: Database, plans: Sequence[Plan], now: EpochSeconds) -> list[JobAnswer]:
    """Return the jobs, in the order of their plans."""
    with database.reads.begin() as connection:
        zone, known, opened = zone_of(connection), states(connection), open_periods(connection, now)
        newest = newest_until(connection)
    return [
        _row(plan.in_force(state.change, zone), state, opened.get(plan.name), newest.get(plan.name), now)
        for plan in plans
        for state in [known.get(plan.name, JobState())]
    ]


def _row(
    plan: Plan, state: JobState, open_: OpenPeriod | None, until: EpochSeconds | None, now: EpochSeconds
) -> JobAnswer:
    change = state.change
    is_over = open_ is not None and (not plan.catch_up or open_.until <= now)
    return JobAnswer(
        name=plan.name,
        also=plan.also,
        does=plan.does,
        every=plan.every,
        at="" if isinstance(plan.cadence, Seconds) else f"{plan.minute // 60:02}:{plan.minute % 60:02}",
        changed=change.every_s is not None or change.minute is not None,
        state=_state(change, open_, now, is_over=is_over),
        waits_for=(open_.waits_for or "") if open_ is not None else "",
        paused=change.paused,
        next_due=_next_due(plan, open_, until),
        open=0 if open_ is None else open_.over if plan.catch_up else int(open_.due <= now or open_.attempts > 0),
        late_s=0 if change.paused is not None else _late_s(plan, state, open_, now),
        **{name: getattr(state, name) for name in RUNS},
    )


def _late_s(plan: Plan, state: JobState, open_: OpenPeriod | None, now: EpochSeconds) -> int:
    """Return by how many seconds a job is late; 0: it is in time, or it never ran."""
    if open_ is None:
        return 0
    if plan.catch_up:
        return max(0, now - plan.due(open_.start, open_.until) - plan.late_s)
    # Of such a job only the present period is kept: what counts is the last one that was done.
    length = open_.until - open_.start
    return 0 if state.done is None else max(0, now - state.done - length - plan.late_s)


def _next_due(plan: Plan, open_: OpenPeriod | None, until: EpochSeconds | None) -> EpochSeconds | None:
    if open_ is not None:
        return open_.due
    if until is None:
        return None
    following = plan.cadence.period_at(until)
    return plan.due(following.start, following.end)


def _state(change: PlanChange, open_: OpenPeriod | None, now: EpochSeconds, *, is_over: bool) -> str:
    if change.paused is not None:
        return "paused"
    state = state_of(open_, now) if open_ is not None and is_over else "ok"
    return "ok" if state == "to come" else state


def run_now(database: Database, plan: Plan, actor: Actor, now: EpochSeconds) -> str:
    """Have the service's next tick run a job; return what will be run.

    Raises:
        ConfigError: The job is paused or running, or has no period that is over.
    """
    with database.writes.begin() as connection:
        state = states(connection).get(plan.name, JobState())
        if state.change.paused is not None:
            raise ConfigError(f"{plan.name} is paused since {moment(state.change.paused)}; resume it first")
        open_ = open_periods(connection, now).get(plan.name)
        if plan.catch_up and (open_ is None or open_.until > now):
            over = "" if open_ is None else f"; {open_.name} ends at {moment(open_.until)}"
            raise ConfigError(f"{plan.name}: every period that is over is done{over}")
        if not ask_for(connection, plan.name, now, again=not plan.catch_up):
            if open_ is None and state.done is None:
                return f"{plan.name} has not run yet: the service runs it within 15 s of its start"
            raise ConfigError(f"{plan.name} is running now")
        record(connection, actor, now, "job.run", plan.name)
        return f"{plan.name} runs within 15 s, if the service is up: see its last run in the list of jobs"


def pause(database: Database, plan: Plan, actor: Actor, now: EpochSeconds) -> None:
    """Pause a job: it begins no further run.

    Raises:
        ConfigError: It is paused.
    """
    with database.writes.begin() as connection:
        before = states(connection).get(plan.name, JobState()).change
        if before.paused is not None:
            raise ConfigError(f"{plan.name} is paused already, since {moment(before.paused)}")
        save_change(connection, plan, before, replace(before, paused=now))
        record(connection, actor, now, "job.pause", plan.name)


def resume(database: Database, plan: Plan, actor: Actor, now: EpochSeconds) -> None:
    """End a pause; a job that catches up makes up for the periods that it missed.

    Raises:
        ConfigError: It is not paused.
    """
    with database.writes.begin() as connection:
        before = states(connection).get(plan.name, JobState()).change
        if before.paused is None:
            raise ConfigError(f"{plan.name} is not paused")
        save_change(connection, plan, before, replace(before, paused=None))
        record(connection, actor, now, "job.resume", plan.name, {"paused": before.paused})


def change(
    database: Database,
    plan: Plan,
    actor: Actor,
    now: EpochSeconds,
    *,
    every_s: int | None = None,
    minute: int | None = None,
) -> None:
    """Set a job's interval or time of day, in place of what was set before; without both it is as planned again.

    Raises:
        ConfigError: The job can't have it.
    """
    with database.writes.begin() as connection:
        before = states(connection).get(plan.name, JobState()).change
        after = replace(UNCHANGED, paused=before.paused, every_s=every_s, minute=minute)
        if (fault := plan.fault(after)) is not None:
            raise ConfigError(fault)
        save_change(connection, plan, before, after)
        record(connection, actor, now, "job.change", plan.name, asdict(before), asdict(after))
