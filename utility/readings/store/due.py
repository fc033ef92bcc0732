"""What is due after readings were joined or events arrived: sharing, settlement and completeness of their days."""

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, select

from commonwatt.model.records import State
from commonwatt.model.units import QUARTER_S, Quarter
from commonwatt.settlement.settled import QUARTERS_A_DAY
from utility.jobs.reasons import Why
from utility.jobs.store.due import mark
from utility.jobs.tables import complete_day, settled_day, settlement_due, sharing_due

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
