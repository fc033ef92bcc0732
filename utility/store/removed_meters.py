"""Meters that were removed: nothing is expected of them from then on."""

from sqlalchemy import Connection, select

from commonwatt.model.units import Quarter
from utility.store.tables import installed, meter

_REMOVED = (
    select(meter.c.no, installed.c.until)
    .join(installed, installed.c.meter == meter.c.id)
    .where(installed.c.until.is_not(None))
)


def removed_meters(connection: Connection) -> dict[int, Quarter]:
    """Return the first quarter without the meter, by the number of each meter with a date of removal."""
    return {row.no: row.until for row in connection.execute(_REMOVED)}
