"""Microgrids' days that statistics have to take in: settled again, or with other accounts than before."""

from sqlalchemy import Connection, func, select

from utility.jobs.store.due import MarkedDay, mark
from utility.jobs.tables import settled_day, usage_due
from utility.registry.layout import Day


def mark_settled(connection: Connection, first: Day, last: Day) -> None:
    """Mark every settled day from ``first`` to ``last``."""
    c = settled_day.c
    found = connection.execute(select(c.day, c.owner_no).where(c.day.between(first, last)))
    mark(connection, usage_due, [(row.day, row.owner_no) for row in found])


def oldest_due(connection: Connection) -> Day | None:
    """Return the oldest marked day; ``None``: nothing is marked."""
    return connection.execute(select(func.min(usage_due.c.day))).scalar()


def due_usage(connection: Connection, until: Day) -> list[MarkedDay]:
    """Return what is marked of the days before ``until``, in order."""
    c = usage_due.c
    statement = select(usage_due).where(c.day < until).order_by(c.day, c.owner_no)
    return [MarkedDay(**row) for row in connection.execute(statement).mappings()]
