"""A meter that comes in place of another one: its row, and stored data that the exchange gives to nobody."""

from sqlalchemy import ColumnElement, Connection, func, select

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.ids import MeterId, signed64
from commonwatt.model.units import Quarter
from utility.store.checks import row_crc
from utility.store.tables import compacted, meter, part


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


def blocks_since(connection: Connection, which: MeterId, quarter: Quarter) -> int:
    """Return how many quarters of a meter are stored from one on."""
    return _blocks(connection, which, compacted.c.quarter >= quarter, part.c.quarter >= quarter)


def blocks_before(connection: Connection, which: MeterId, quarter: Quarter) -> int:
    """Return how many quarters of a meter are stored before one."""
    return _blocks(connection, which, compacted.c.quarter < quarter, part.c.quarter < quarter)


def _blocks(
    connection: Connection, which: MeterId, compacted_then: ColumnElement[bool], part_then: ColumnElement[bool]
) -> int:
    number = connection.execute(select(meter.c.no).where(meter.c.id == signed64(which))).scalar()
    if number is None:
        return 0
    done = select(compacted.c.quarter).where(compacted.c.meter_no == number, compacted_then)
    fresh = select(part.c.quarter).where(part.c.meter_no == number, part_then)
    return connection.execute(select(func.count()).select_from(done.union(fresh).subquery())).scalar_one()
