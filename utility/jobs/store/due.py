"""Marks of what is due: microgrids' days and quarters of which a job has to compute something again."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, and_, bindparam, case, func, select

from utility.database.database import insert_or
from utility.jobs.reasons import Why
from utility.jobs.tables import settlement_due

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
