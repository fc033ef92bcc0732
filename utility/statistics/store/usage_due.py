"""Microgrids' days that statistics have to take in: settled again, or with other accounts than before."""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, func, select

from commonwatt.settlement.settled import QUARTERS_A_DAY
from utility.database.database import insert_or
from utility.registry.accounts import DatedRegistry, Holding
from utility.registry.layout import Day
from utility.registry.tables import controller
from utility.settlement.tables import settled_day
from utility.statistics.tables import usage_due


@dataclass(frozen=True, kw_only=True)
class DueUsage:
    """A microgrid's day to take in."""

    day: Day  # the day of UTC
    owner_no: int  # the number of the microgrid's controller
    marks: int  # how often it was marked


def mark_usage(connection: Connection, pairs: Iterable[tuple[Day, int]]) -> None:
    """Mark (day, microgrid's number) to be taken in."""
    again = insert_or(connection, usage_due).on_conflict_do_update(
        index_elements=list(usage_due.primary_key), set_={"marks": usage_due.c.marks + 1}
    )
    if rows := [{"day": day, "owner_no": owner, "marks": 1} for day, owner in sorted(set(pairs))]:
        connection.execute(again, rows)


def mark_settled(connection: Connection, first: Day, last: Day) -> int:
    """Mark every settled day from ``first`` to ``last``; return how many microgrids' days."""
    c = settled_day.c
    found = connection.execute(select(c.day, c.owner_no).where(c.day.between(first, last))).all()
    mark_usage(connection, [(row.day, row.owner_no) for row in found])
    return len(found)


def mark_changed_holdings(connection: Connection, before: DatedRegistry, after: DatedRegistry) -> None:
    """Mark the settled days from which on a meter's account is another one than before."""
    first_of: dict[str, Day] = {}
    for meter_id, now in after.meters.items():
        was = before.meters.get(meter_id)
        if was is None or was.holdings == now.holdings:
            continue
        changed = min(_dates(was.holdings) ^ _dates(now.holdings))[0] // QUARTERS_A_DAY
        first_of[now.microgrid] = min(changed, first_of.get(now.microgrid, changed))
    if not first_of:
        return
    c = settled_day.c
    numbers = {row.id: row.number for row in connection.execute(select(controller.c.id, controller.c.number))}
    for name, first in first_of.items():
        days = connection.execute(select(c.day).where(c.owner_no == numbers[name], c.day >= first)).scalars()
        mark_usage(connection, [(day, numbers[name]) for day in days])


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


def _dates(holdings: Iterable[Holding]) -> set[tuple[int, int, str]]:
    """Return what begins and ends when."""
    begins = {(held.start, held.account, "begins") for held in holdings}
    return begins | {(held.end, held.account, "ends") for held in holdings if held.end is not None}
