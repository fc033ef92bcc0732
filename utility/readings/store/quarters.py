"""Quarters that batches touch: first and newest ones of meters, and days due to be shared, settled and counted."""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from sqlalchemy import ARRAY, Connection, Insert, Integer, bindparam, func, select

from commonwatt.model.records import State
from commonwatt.model.units import QUARTER_S, ControllerId, Quarter
from utility.database.database import insert_in
from utility.energy.quarters import QUARTERS_A_DAY
from utility.jobs.plans import Why
from utility.jobs.store import mark
from utility.jobs.tables import complete_day, settled_day, settlement_due, sharing_due
from utility.readings.tables import batch, compacted, part, series, tally
from utility.registry.store.registry import controller_numbers

_SEVERAL = 0  # the number in blocks whose parts several controllers sent
_IN_BATCHES = select(batch.c.last_quarter.label("quarter"), batch.c.sender_no).subquery()
_SERIES = ["meter_no", "record_type", "first_quarter"]


def keep_first(connection: Connection, firsts: Mapping[tuple[int, int], Quarter]) -> None:
    """Record the first quarters with data, by meter's number and record type; earlier ones that are there stay."""
    if not firsts:
        return
    rows = [(number, record_type, quarter) for (number, record_type), quarter in firsts.items()]
    dialect = connection.dialect.name
    if dialect == "postgresql":
        # One statement: a backlog arrives newest first, with an earlier first quarter for every series.
        values: Any = dict(zip(_SERIES, map(list, zip(*rows, strict=True)), strict=True))
    else:
        values = [dict(zip(_SERIES, row, strict=True)) for row in rows]
    connection.execute(_keep_first(dialect), values)


# Made once: making a statement takes longer than executing it.
@cache
def _keep_first(dialect: str) -> Insert:
    """Return an insert of series that keeps the earlier first quarter; on PostgreSQL it takes lists of values."""
    statement = insert_in(dialect, series)
    if dialect == "postgresql":
        lists = (func.unnest(bindparam(name, type_=ARRAY(Integer))) for name in _SERIES)
        statement = statement.from_select(_SERIES, select(*lists))
    earlier = statement.excluded.first_quarter
    return statement.on_conflict_do_update(
        index_elements=list(series.primary_key),
        set_={"first_quarter": earlier},
        where=series.c.first_quarter > earlier,
    )


def newest_of_two(connection: Connection) -> dict[ControllerId, Quarter]:
    """Return the newest quarter of the two senders with the newest data; of fewer, if fewer have sent."""
    names = {number: name for name, number in controller_numbers(connection).items()}
    # Where one controller has sent all, the search for a second would read every block.
    senders = len(connection.execute(select(tally.c.controller).where(tally.c.blocks > 0).limit(2)).all())
    found: dict[int, Quarter] = {}
    for _ in range(senders):
        newest = [
            tuple(row)
            for c in (_IN_BATCHES.c, part.c, compacted.c)
            for row in connection.execute(
                select(c.quarter, c.sender_no)
                .where(c.sender_no.not_in([_SEVERAL, *found]))
                .order_by(c.quarter.desc())
                .limit(1)
            )
        ]
        if newest:
            quarter, sender = max(newest)
            found[sender] = quarter
    return {names[number]: quarter for number, quarter in found.items() if number in names}


# Quarters after a late event of sharing that are computed again: a command to share ends within a day.
MAX_LATE_QUARTERS = 96


def mark_joined(connection: Connection, keys: set[tuple[Quarter, int]]) -> None:
    """Mark (quarter, number of the microgrid's controller) whose readings were joined."""
    _mark(connection, keys)
    mark(connection, complete_day, {(quarter // QUARTERS_A_DAY, owner) for quarter, owner in keys})


def mark_events(
    connection: Connection, events: Iterable[Mapping[str, Any]], owners: Mapping[str, int], received: Quarter
) -> None:
    """Mark the quarters in which a battery began or ended to share; of a late event also those after it.

    Args:
        events: New rows of ``event``.
        owners: The numbers of the microgrids' controllers, by id.
        received: The quarter of their receipt.
    """
    keys: set[tuple[Quarter, int]] = set()
    for row in events:
        if (row["previous_state"] ^ row["new_state"]) & State.SHARING:
            first = row["time"] // QUARTER_S
            last = max(first, min(received, first + MAX_LATE_QUARTERS))
            keys |= {(quarter, owners[row["owner"]]) for quarter in range(first, last + 1)}
    _mark(connection, keys)


def _mark(connection: Connection, keys: set[tuple[Quarter, int]]) -> None:
    """Mark the sharing of quarters, also of the next ones, and the settlement of their days."""
    # A quarter needs the last level before it. So the day before a settled one is marked with that one.
    mark(connection, sharing_due, {(quarter + later, owner) for quarter, owner in keys for later in (0, 1)})
    pairs = {(quarter // QUARTERS_A_DAY, owner) for quarter, owner in keys}
    c = settled_day.c
    for day in {quarter // QUARTERS_A_DAY + 1 for quarter, _ in keys if (quarter + 1) % QUARTERS_A_DAY == 0}:
        there = connection.execute(select(c.owner_no).where(c.day == day)).scalars()
        pairs |= {(day, owner) for owner in there if (day * QUARTERS_A_DAY - 1, owner) in keys}
    mark(connection, settlement_due, pairs, Why.LATE)
