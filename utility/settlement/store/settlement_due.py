"""Days that are to be settled, by microgrid, and what settlement reads: the meters and their readings.

The compactor marks a day when readings of it are joined, so that late readings mark exactly the days they touch.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from commonwatt.model.ids import MeterId
from commonwatt.model.records import State
from commonwatt.model.units import MicrogridId
from commonwatt.settlement.settled import QUARTERS_A_DAY
from commonwatt.settlement.splits import Flags
from utility.jobs.reasons import Why
from utility.jobs.store.due import MarkedDay, mark
from utility.jobs.tables import settled_day, settlement_due
from utility.readings.store.events import events_by_meter
from utility.readings.store.retention import kept_from
from utility.registry.layout import Day
from utility.registry.tables import controller
from utility.settlement.shared_quarter import sharing_slots

MOST_SILENT_DAYS = 62  # days back from the last settled one that are looked at for a day without any reading


@dataclass(frozen=True, kw_only=True)
class DueDay(MarkedDay):
    """A microgrid's day to settle."""

    why: Why  # the reason of the marks


def mark_first(connection: Connection, day: Day) -> None:
    """Mark every microgrid of a day that was never settled: also those without any reading."""
    if connection.execute(select(settled_day.c.day).where(settled_day.c.day == day).limit(1)).first() is None:
        numbers = connection.execute(select(controller.c.number)).scalars()
        mark(connection, settlement_due, [(day, number) for number in numbers], Why.FIRST)


def silent_days(connection: Connection, before: Day) -> list[Day]:
    """Return the days before ``before`` without any reading of the town, between settled ones.

    Nothing else marks them: a mark comes with a reading. Days whose readings are no longer kept are left out.
    """
    c, first = settled_day.c, -(-kept_from(connection) // QUARTERS_A_DAY)
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


def whole_day(connection: Connection, day: Day, microgrids: Collection[MicrogridId]) -> list[DueDay]:
    """Return a day of some microgrids to settle, whether or not it is marked."""
    numbers = connection.execute(select(controller.c.number).where(controller.c.id.in_(microgrids))).scalars()
    return [DueDay(day=day, owner_no=number, marks=0, why=Why.PERSON) for number in numbers]


def sharing_of_day(connection: Connection, batteries: Mapping[int, MeterId], day: Day) -> dict[MeterId, Flags]:
    """Return the slots of a day in which batteries had the command to share; only batteries that shared.

    Args:
        batteries: The ids of their meters, by number.
    """
    return {
        batteries[number]: sharing_slots(events, day * QUARTERS_A_DAY, QUARTERS_A_DAY)
        for number, events in events_by_meter(connection, list(batteries), day * 86_400, (day + 1) * 86_400).items()
        if any((event.previous_state | event.new_state) & State.SHARING for _, event in events)
    }
