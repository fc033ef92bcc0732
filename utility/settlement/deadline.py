"""When a day's settlement is final: at the end of a working day of the next month, in local time."""

from collections.abc import Container
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from commonwatt.model.units import EpochSeconds
from utility.registry.layout import Day

_FRIDAY = 4


def deadline(day: Day, zone: ZoneInfo, working_days: int, holidays: Container[date] = ()) -> EpochSeconds:
    """Return the first second at which a day is final although readings are missing.

    Args:
        day: The day of UTC; the local month of its first second counts: its last hours may
            be of the next month, whose bills then have them final early.
        zone: The town's zone.
        working_days: Which working day of the next month, from 1.
        holidays: Dates on which nobody works.
    """
    begin = datetime.fromtimestamp(day * 86_400, UTC).astimezone(zone)
    of = date(begin.year + begin.month // 12, begin.month % 12 + 1, 1) - timedelta(days=1)
    while working_days:
        of += timedelta(days=1)
        working_days -= of.weekday() <= _FRIDAY and of not in holidays
    after = of + timedelta(days=1)
    return int(datetime(after.year, after.month, after.day, tzinfo=zone).timestamp())
