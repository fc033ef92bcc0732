"""The first quarters of meters' record types, and the newest ones that senders have committed."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from sqlalchemy import ARRAY, Connection, Insert, Integer, bindparam, func, select

from commonwatt.model.units import ControllerId, Quarter
from utility.database.database import insert_in
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
