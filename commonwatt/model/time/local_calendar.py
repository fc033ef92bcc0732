"""Local dates and times as quarters: months, and times that a change of the clocks skips or repeats."""

import re
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import QUARTER_S, EpochSeconds, Quarter

_MONTH = re.compile(r"(\d{4})-(\d{2})")

END_YEAR = 2100  # the year before which all months of bills and all rates begin


def local_moment(time: datetime, zone: ZoneInfo) -> datetime:
    """Return a local time with its offset; one that has an offset is returned unchanged."""
    if time.tzinfo is not None:
        return time
    early, late = (time.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
    if early.utcoffset() == late.utcoffset():
        return early
    text = time.isoformat(timespec="minutes")
    if early.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != time:
        raise ValueError(f"{text} does not exist in {zone.key}: clocks go forward then")
    raise ValueError(
        f"{text} exists twice in {zone.key}: clocks go back then; write {early.isoformat(timespec='minutes')} "
        f"or {late.isoformat(timespec='minutes')}"
    )


def quarter_at(time: datetime, zone: ZoneInfo) -> Quarter:
    """Return the quarter that begins at a local time.

    Raises:
        ValueError: The time does not exist, exists twice, or begins no quarter-hour.
    """
    seconds = local_moment(time, zone).timestamp()
    if seconds % QUARTER_S:
        raise ValueError(f"{time:%H:%M:%S} begins no quarter-hour")
    return int(seconds) // QUARTER_S


def local_day(time: EpochSeconds, zone: ZoneInfo) -> date:
    """Return the local day of a time."""
    return datetime.fromtimestamp(time, zone).date()


def require_near(name: str, day: date, today: date, before: int, after: int) -> None:
    """Refuse a day that is more than so many days before or after today: it is a mistake of typing.

    Raises:
        ConfigError: It is; begins with the name of its field.
    """
    first, last = today - timedelta(before), today + timedelta(after)
    if not first <= day <= last:
        raise ConfigError(f"{name}: has to be a day from {first} to {last}")


def midnight(day: date, zone: ZoneInfo) -> Quarter:
    """Return the quarter that begins a local day."""
    return quarter_at(datetime(day.year, day.month, day.day), zone)  # noqa: DTZ001 - local, and the zone is beside it


def local_text(quarter: Quarter, zone: ZoneInfo) -> str:
    """Return the local date and time at which a quarter begins, as in 2026-11-15 00:00."""
    return datetime.fromtimestamp(quarter * QUARTER_S, zone).strftime("%Y-%m-%d %H:%M")


def month_of(quarter: Quarter, zone: ZoneInfo) -> str:
    """Return the local month of a quarter, as in 2026-11."""
    return datetime.fromtimestamp(quarter * QUARTER_S, zone).strftime("%Y-%m")


def month_before(month: str) -> str:
    """Return the month before."""
    year, number = parse_month(month)
    return f"{year - (number == 1):04d}-{(number - 2) % 12 + 1:02d}"


def month_after(month: str) -> str:
    """Return the month after."""
    year, number = parse_month(month)
    return f"{year + number // 12:04d}-{number % 12 + 1:02d}"


def month_quarters(month: str, zone: ZoneInfo) -> tuple[Quarter, Quarter]:
    """Return the first quarter of a local month and the one after its last."""
    year, number = parse_month(month)
    until = date(year + number // 12, number % 12 + 1, 1)
    return midnight(date(year, number, 1), zone), midnight(until, zone)


def parse_month(month: str) -> tuple[int, int]:
    """Return year and month.

    Raises:
        ConfigError: The text is no month.
    """
    found = _MONTH.fullmatch(month)
    if found is None or not 1 <= int(found[2]) <= 12 or not 1970 < int(found[1]) < END_YEAR:
        raise ConfigError(f"{month}: is no month; write it as 2026-11")
    return int(found[1]), int(found[2])
