"""Days that are to be settled, by microgrid, and what settlement reads: the meters and their readings.

The compactor marks a day when readings of it are joined, so that late readings mark exactly the days they touch.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, case, func, select

from commonwatt.model.ids import MeterId, signed64, unsigned64
from commonwatt.model.records import EventRecord, State
from commonwatt.model.units import Quarter
from commonwatt.settlement.settled import QUARTERS_A_DAY
from utility.database.database import insert_or
from utility.readings.store.events import event_of, events_around, sound_events
from utility.readings.store.parts import chunks
from utility.registry.accounts import DatedRegistry, Installed
from utility.registry.layout import Day
from utility.registry.tables import controller, meter
from utility.settlement.reasons import Why
from utility.settlement.tables import settled_day, settlement_due

MOST_SILENT_DAYS = 62  # days back from the last settled one that are looked at for a day without any reading


@dataclass(frozen=True, kw_only=True)
class DueDay:
    """A microgrid's day to settle."""

    day: Day  # the day
    owner_no: int  # the number of the microgrid's controller
    marks: int  # how often it was marked
    why: Why  # the reason of the marks


def mark_quarters(connection: Connection, keys: Iterable[tuple[Quarter, int]]) -> None:
    """Mark the days of (quarter, microgrid's number) whose readings were joined.

    The last level of a day is also the first of the next one: if that is settled, it is marked too.
    """
    keys = set(keys)
    pairs = {(quarter // QUARTERS_A_DAY, owner) for quarter, owner in keys}
    c = settled_day.c
    for day in {quarter // QUARTERS_A_DAY + 1 for quarter, _ in keys if (quarter + 1) % QUARTERS_A_DAY == 0}:
        there = connection.execute(select(c.owner_no).where(c.day == day)).scalars()
        pairs |= {(day, owner) for owner in there if (day * QUARTERS_A_DAY - 1, owner) in keys}
    mark_days(connection, pairs, Why.LATE)


def mark_days(connection: Connection, pairs: Iterable[tuple[Day, int]], why: Why) -> None:
    """Mark (day, microgrid's number) to be settled, for a reason."""
    statement = insert_or(connection, settlement_due)
    old, new = settlement_due.c.why, statement.excluded.why
    again = statement.on_conflict_do_update(
        index_elements=list(settlement_due.primary_key),
        set_={"marks": settlement_due.c.marks + 1, "why": case((old > new, old), else_=new)},
    )
    if rows := [{"day": day, "owner_no": owner, "marks": 1, "why": int(why)} for day, owner in sorted(pairs)]:
        connection.execute(again, rows)


def mark_first(connection: Connection, day: Day) -> None:
    """Mark every microgrid of a day that was never settled: also those without any reading."""
    if connection.execute(select(settled_day.c.day).where(settled_day.c.day == day).limit(1)).first() is None:
        numbers = connection.execute(select(controller.c.number)).scalars()
        mark_days(connection, [(day, number) for number in numbers], Why.FIRST)


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


def mark_changed_places(connection: Connection, before: DatedRegistry, after: DatedRegistry) -> None:
    """Mark the settled days in which a meter is at another place, or came or went at another time, than before."""
    c = settled_day.c
    for owner, first in changed_places(connection, before, after).items():
        days = connection.execute(select(c.day).where(c.owner_no == owner, c.day >= first)).scalars()
        mark_days(connection, [(day, owner) for day in days], Why.REGISTRY)


def changed_places(connection: Connection, before: DatedRegistry, after: DatedRegistry) -> dict[int, Day]:
    """Return the first day on which a meter's place, or its being there, may be another, by microgrid's number."""
    numbers = {row.id: row.number for row in connection.execute(select(controller.c.id, controller.c.number))}
    found: dict[int, Day] = {}
    for meter_id, now in after.meters.items():
        was = before.meters.get(meter_id)
        if was is None or replace(was, holdings=()) == replace(now, holdings=()):
            continue
        owner, day = numbers[now.microgrid], _changed_from(was, now) // QUARTERS_A_DAY
        found[owner] = min(day, found.get(owner, day))
    return found


def _changed_from(was: Installed, now: Installed) -> Quarter:
    """Return the first quarter in which a meter's place, or its being there, may be another than before."""
    if replace(was, end=now.end, last_register=now.last_register, holdings=now.holdings) == now:
        return min((end for end in (was.end, now.end) if end is not None), default=0)
    # Another begin or place: all the time that it was or is there.
    return min(was.start or 0, now.start or 0)


def due_days(connection: Connection, before: Day) -> dict[Day, int]:
    """Return the marked days before ``before``, in order, and how many microgrids each has."""
    c = settlement_due.c
    statement = select(c.day, func.count()).where(c.day < before).group_by(c.day).order_by(c.day)
    return dict(connection.execute(statement).all())


def first_due_day(connection: Connection, since: Day) -> Day | None:
    """Return the first marked day from ``since`` on; ``None``: there is none."""
    c = settlement_due.c
    found: Day | None = connection.execute(select(func.min(c.day)).where(c.day >= since)).scalar()
    return found


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


def numbers_of(connection: Connection, ids: Sequence[MeterId]) -> dict[MeterId, int]:
    """Return the numbers of meters in the database, by their ids."""
    found: dict[MeterId, int] = {}
    for some in chunks(ids):
        statement = select(meter.c.id, meter.c.no).where(meter.c.id.in_([signed64(i) for i in some]))
        found |= {unsigned64(row.id): row.no for row in connection.execute(statement)}
    return found


def events_of_day(connection: Connection, numbers: Sequence[int], day: Day) -> dict[int, list[tuple[int, EventRecord]]]:
    """Return by meter number the (log generation, event) that tell when it shared; only meters that did."""
    found: dict[int, list[tuple[int, EventRecord]]] = {}
    for row in sound_events(events_around(connection, numbers, day * 86_400, (day + 1) * 86_400)):
        found.setdefault(row.meter_no, []).append((row.generation, event_of(row, 0)))
    return {
        number: events
        for number, events in found.items()
        if any((event.previous_state | event.new_state) & State.SHARING for _, event in events)
    }
