"""Microgrids' days that statistics have to take in: settled again, or with other accounts than before."""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, func, select

from utility.jobs.store.due import mark
from utility.jobs.tables import settled_day, usage_due
from utility.registry.layout import Day


@dataclass(frozen=True, kw_only=True)
class DueUsage:
    """A microgrid's day to take in."""

    day: Day  # the day of UTC
    owner_no: int  # the number of the microgrid's controller
    marks: int  # how often it was marked


def mark_settled(connection: Connection, first: Day, last: Day) -> int:
    """Mark every settled day from ``first`` to ``last``; return how many microgrids' days."""
    c = settled_day.c
    found = connection.execute(select(c.day, c.owner_no).where(c.day.between(first, last))).all()
    mark(connection, usage_due, [(row.day, row.owner_no) for row in found])
    return len(found)


def oldest_due(connection: Connection) -> Day | None:
    """Return the oldest marked day; ``None``: nothing is marked."""
    return connection.execute(select(func.min(usage_due.c.day))).scalar()


def due_usage(connection: Connection, until: Day) -> list[DueUsage]:
    """Return what is marked of the days before ``until``, in order."""
    c = usage_due.c
    statement = select(usage_due).where(c.day < until).order_by(c.day, c.owner_no)
    return [DueUsage(**row) for row in connection.execute(statement).mappings()]


def unmark_usage(connection: Connection, done: Iterable[DueUsage]) -> None:
    """Delete marks, unless they were marked again since they were read."""
    c = usage_due.c
    same = (c.day == bindparam("of_day")) & (c.owner_no == bindparam("of_owner")) & (c.marks == bindparam("of_marks"))
    if rows := [{"of_day": one.day, "of_owner": one.owner_no, "of_marks": one.marks} for one in done]:
        connection.execute(usage_due.delete().where(same), rows)
