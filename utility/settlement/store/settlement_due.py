"""Days that are to be settled, by microgrid, and what settlement reads: the meters and their readings.

The compactor marks a day when readings of it are joined, so that late readings mark exactly the days they touch.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from commonwatt.model.records import EventRecord, State
from utility.jobs.reasons import Why
from utility.jobs.store.due import mark
from utility.jobs.tables import settled_day, settlement_due
from utility.readings.store.events import events_by_meter
from utility.registry.layout import Day
from utility.registry.tables import controller

MOST_SILENT_DAYS = 62  # days back from the last settled one that are looked at for a day without any reading


@dataclass(frozen=True, kw_only=True)
class DueDay:
    """A microgrid's day to settle."""

    day: Day  # the day
    owner_no: int  # the number of the microgrid's controller
    marks: int  # how often it was marked
    why: Why  # the reason of the marks


def mark_first(connection: Connection, day: Day) -> None:
    """Mark every microgrid of a day that was never settled: also those without any reading."""
    if connection.execute(select(settled_day.c.day).where(settled_day.c.day == day).limit(1)).first() is None:
        numbers = connection.execute(select(controller.c.number)).scalars()
        mark(connection, settlement_due, [(day, number) for number in numbers], Why.FIRST)


def silent_days(connection: Connection, first: Day, before: Day) -> list[Day]:
    """Return the days of ``[first, before)`` without any reading of the town, between settled ones.

    Nothing else marks them: a mark comes with a reading.
    """
    c = settled_day.c
    last = connection.execute(select(func.max(c.day)).where(c.day < before)).scalar()
    if last is None:
        return []
    days = c.day.between(max(first, last - MOST_SILENT_DAYS), last)
    known = set(connection.execute(select(c.day).where(days).distinct()).scalars())
    return sorted(set(range(min(known), last)) - known) if known else []


def due_days(connection: Connection, before: Day) -> dict[Day, int]:
    """Return the marked days before ``before``, in order, and how many microgrids each has."""
    c = settlement_due.c
    statement = select(c.day, func.count()).where(c.day < before).group_by(c.day).order_by(c.day)
    return dict(connection.execute(statement).all())


def due_on(connection: Connection, day: Day) -> list[DueDay]:
    """Return what is marked of a day, by microgrid."""
    c = settlement_due.c
    statement = select(settlement_due).where(c.day == day).order_by(c.owner_no)
    return [
        DueDay(day=r.day, owner_no=r.owner_no, marks=r.marks, why=Why(r.why)) for r in connection.execute(statement)
    ]


def unmark(connection: Connection, done: Iterable[DueDay]) -> None:
    """Delete marks, unless they were marked again since they were read."""
    c = settlement_due.c
    for one in done:
        mark = (c.day == one.day) & (c.owner_no == one.owner_no) & (c.marks == one.marks)
        connection.execute(settlement_due.delete().where(mark))


def events_of_day(connection: Connection, numbers: Sequence[int], day: Day) -> dict[int, list[tuple[int, EventRecord]]]:
    """Return by meter number the (log generation, event) that tell when it shared; only meters that did."""
    return {
        number: events
        for number, events in events_by_meter(connection, numbers, day * 86_400, (day + 1) * 86_400).items()
        if any((event.previous_state | event.new_state) & State.SHARING for _, event in events)
    }
