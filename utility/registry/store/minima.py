"""The sharing minima that meters reported (T6)."""

from collections.abc import Sequence

from sqlalchemy import BigInteger, Connection, bindparam, delete, exists, insert, select

from commonwatt.model.ids import MeterId
from commonwatt.model.units import EpochSeconds
from utility.registry.tables import declared_minimum, meter, present_minimum

_SAID, _NOW, _PERCENT = (bindparam(name, type_=BigInteger) for name in ("when", "now", "what"))
_NUMBER = select(meter.c.no).where(meter.c.label == bindparam("who")).scalar_subquery()
_ITS_MINIMUM = declared_minimum.c.meter_no == _NUMBER
# A report from a time to come was made by a meter whose clock was ahead.
_DROP_MINIMA_AHEAD = delete(declared_minimum).where(_ITS_MINIMUM, declared_minimum.c.said > _NOW)
# A report of the same minimum, or one older than the last, adds nothing.
_ADD_MINIMUM = insert(declared_minimum).from_select(
    ["meter_no", "percent", "said"],
    select(meter.c.no, _PERCENT, _SAID)
    .where(meter.c.label == bindparam("who"))
    .where(~exists().where(declared_minimum.c.meter_no == meter.c.no, declared_minimum.c.said >= _SAID))
    .where(~exists().where(present_minimum.c.meter_no == meter.c.no, present_minimum.c.percent == _PERCENT)),
)


def declare_minima(connection: Connection, reports: Sequence[tuple[EpochSeconds, MeterId, int, EpochSeconds]]) -> None:
    """Keep reported minima: each the present time, the meter, its minimum in percent, and when it reported it."""
    rows = [
        {"now": now, "who": str(meter_id), "what": percent, "when": said} for now, meter_id, percent, said in reports
    ]
    if rows:
        connection.execute(_DROP_MINIMA_AHEAD, rows)
        connection.execute(_ADD_MINIMUM, rows)
