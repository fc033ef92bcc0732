"""Which days are final: settled with every reading, or past the deadline for late ones."""

from sqlalchemy import Connection, func, select

from commonwatt.model.units import EpochSeconds
from commonwatt.model.words import counted, moment
from utility.jobs.tables import settled_day, settlement_due
from utility.registry.layout import Day

_DAY_S = 86_400


def days_between(start: EpochSeconds, end: EpochSeconds) -> range:
    """Return the UTC days with a second in ``[start, end)``."""
    return range(start // _DAY_S, -(-end // _DAY_S))


def first_settled_day(connection: Connection) -> Day | None:
    """Return the first day that was settled; ``None``: none was."""
    found: Day | None = connection.execute(select(func.min(settled_day.c.day))).scalar()
    return found


def not_final(connection: Connection, days: range) -> str | None:
    """Return why some days are not final, for people; ``None``: they are.

    Days before the first settled one do not count.
    """
    begun = first_settled_day(connection)
    wanted = range(max(days.start, days.stop if begun is None else begun), days.stop)
    c, due = settled_day.c, settlement_due.c
    within = c.day.between(wanted.start, wanted.stop - 1)
    there = set(connection.execute(select(c.day).where(within).distinct()).scalars())
    marked = connection.execute(
        select(due.day).where(due.day.between(wanted.start, wanted.stop - 1)).distinct().order_by(due.day)
    ).scalars()
    unsettled = sorted({*(set(wanted) - there), *marked})
    if unsettled:
        return f"{counted(len(unsettled), 'day')} not settled yet, the first {_date(unsettled[0])} (UTC)"
    row = connection.execute(select(func.count(), func.min(c.day)).where(within, ~c.final)).one()
    if row[0]:
        return (
            f"readings missing in {counted(row[0], 'settled day')} of microgrids, the first {_date(row[1])} (UTC): "
            "they may come until the deadline"
        )
    return None


def _date(day: Day) -> str:
    return moment(day * _DAY_S)[:10]
