"""What a person set for a job, and what is known of its runs: the table ``job`` beside ``period``."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from commonwatt.model.units import EpochSeconds
from utility.database.base import read
from utility.database.database import upsert
from utility.database.town_zone import zone_of
from utility.jobs.plans import UNCHANGED, Change, Plan
from utility.jobs.tables import job, period

RUNS = ("period", "done", "took_ms", "failed", "error")  # what is stored of a job's runs


@dataclass(frozen=True, kw_only=True)
class State:
    """What is stored of a job."""

    change: Change = UNCHANGED  # what a person set
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


def states(connection: Connection) -> dict[str, State]:
    """Return what is stored of the jobs, by name."""
    return {
        row["name"]: State(
            change=Change(every_s=row["every_s"], minute=row["minute"], paused=row["paused"]),
            **{name: row[name] for name in RUNS},
        )
        for row in connection.execute(select(job)).mappings()
    }


def plan_in_force(connection: Connection, plan: Plan) -> Plan | None:
    """Return a job's plan with what a person set; ``None``: it is paused."""
    row = connection.execute(select(job.c.paused, job.c.every_s, job.c.minute).where(job.c.name == plan.name)).first()
    change = UNCHANGED if row is None else Change(every_s=row.every_s, minute=row.minute)
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


def save_change(connection: Connection, plan: Plan, before: Change, after: Change) -> None:
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
