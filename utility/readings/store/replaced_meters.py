"""A meter that comes in place of another one: its row, and stored data that the exchange gives to nobody."""

from sqlalchemy import Connection, Integer, bindparam, func, select

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import MeterId, Quarter, signed64
from utility.database.checks import row_crc
from utility.readings.store.batches import execute, fresh
from utility.readings.store.parts import QUARTERS_AT_A_TIME, chunks
from utility.readings.store.retention import kept_from, newest_quarter
from utility.readings.tables import compacted, series
from utility.registry.tables import meter


def register_replacement(connection: Connection, old: MeterId, new: MeterId) -> None:
    """Register a meter like the one that it replaces, unless it is registered already.

    Its address is the old one's, until the town file gives it its own.

    Raises:
        ConfigError: It is registered as another kind of meter.
    """
    rows = {row["id"]: dict(row) for row in connection.execute(select(meter)).mappings()}
    made = rows[signed64(old)] | {"id": signed64(new), "label": str(new)}
    del made["no"], made["crc"]
    known = rows.get(signed64(new))
    if known is None:
        connection.execute(meter.insert().values(**made, crc=row_crc(meter, made)))
        return
    for column in ("microgrid", "function", "direction"):
        if known[column] != made[column]:
            other = f"meter {new} is registered with {column} {known[column]}, and meter {old} with {made[column]}"
            raise ConfigError(f"{other}: it can't take its place")


def count_blocks(connection: Connection, which: MeterId, since: Quarter, until: Quarter | None = None) -> int:
    """Return how many quarters of a meter are stored from one on and before another one."""
    number = connection.execute(select(meter.c.no).where(meter.c.id == signed64(which))).scalar() or 0
    first = connection.execute(_FIRST, {"number": number}).scalar()
    if first is None:
        return 0
    newest = newest_quarter(connection)
    end = 0 if newest is None else newest + 1 if until is None else min(newest + 1, until)
    found: set[Quarter] = set()
    for some in chunks(range(max(since, first, kept_from(connection)), end), QUARTERS_AT_A_TIME):
        rows = connection.execute(_COMPACTED, {"number": number, "quarters": some})
        found |= set(rows.scalars())
    waiting = execute(connection, _FRESH, {"number": number}, meters=[number]).scalars()
    return len(found | {quarter for quarter in waiting if since <= quarter and (until is None or quarter < until)})


_NUMBER = bindparam("number", type_=Integer)
_FIRST = select(func.min(series.c.first_quarter)).where(series.c.meter_no == _NUMBER)
# Each quarter is a lookup, since the key begins with it: a condition on the meter alone would read the whole town.
_COMPACTED = select(compacted.c.quarter).where(
    compacted.c.quarter.in_(bindparam("quarters", expanding=True)), compacted.c.meter_no == _NUMBER
)
_FRESH = select(fresh.c.quarter).where(fresh.c.meter_no == _NUMBER)
