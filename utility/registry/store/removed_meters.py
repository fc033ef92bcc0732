"""Meters that were removed: nothing is expected of them from then on."""

from sqlalchemy import Connection, func, select

from commonwatt.model.units import MicrogridId, Quarter
from utility.database.checks import sound_rows
from utility.registry.tables import installed, meter

_IS_REMOVED = installed.c.until.is_not(None)
_NUMBERS = select(meter.c.id, meter.c.no).where(meter.c.id.in_(select(installed.c.meter).where(_IS_REMOVED)))


def removed_meters(connection: Connection) -> dict[int, Quarter]:
    """Return the first quarter without the meter, by the number of each meter with a date of removal.

    Raises:
        DamagedError: A row is damaged; with a wrong date, missing readings would not be requested.
    """
    numbers = {row.id: row.no for row in connection.execute(_NUMBERS)}
    found = sound_rows(connection, installed, _IS_REMOVED)
    return {numbers[row.meter]: row.until for row in found if row.meter in numbers}


def closed_microgrids(connection: Connection) -> dict[MicrogridId, Quarter]:
    """Return the first quarter without any meter, by each microgrid whose meters all have a date of removal."""
    rows = connection.execute(
        select(meter.c.microgrid, func.max(installed.c.until).label("until"))
        .outerjoin(installed, installed.c.meter == meter.c.id)
        .group_by(meter.c.microgrid)
        .having(func.count(installed.c.until) == func.count())
    )
    return {row.microgrid: row.until for row in rows}
