"""Local dates and times: months, days as quarters, also as arrays, and times as people write them."""

import re
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import MAX_EPOCH, QUARTER_S, EpochSeconds, Quarter

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


DAY_QUARTERS = 96  # quarter-hours in a day of 24 hours
_EPOCH_WEEKDAY, _SATURDAY = 3, 5
Quarters = NDArray[np.int64]  # quarter-hours, counted from 1970, UTC or local


def to_local(quarters: Quarters, zone: ZoneInfo) -> Quarters:
    """Return the local wall time of UTC quarters, as quarters of the local calendar counted from 1970."""
    return quarters + _offsets(quarters, zone)


def to_utc(local: Quarters, zone: ZoneInfo) -> Quarters:
    """Return UTC quarters for local wall times; for a skipped one the same time an hour on, of two one of them."""
    near = local - _offsets(local, zone)
    return np.asarray(local - _offsets(near, zone), np.int64)


def local_hour(quarters: Quarters, zone: ZoneInfo) -> Quarters:
    """Return the local hour, 0 to 23, of UTC quarters."""
    return np.asarray(to_local(quarters, zone) % DAY_QUARTERS // 4, np.int64)


def load_cells(quarters: Quarters, zone: ZoneInfo) -> Quarters:
    """Return the cell of the load shape of UTC quarters: the local hours of weekdays, 0 to 23, of weekends 24 to 47."""
    local = to_local(quarters, zone)
    is_weekend = (local // DAY_QUARTERS + _EPOCH_WEEKDAY) % 7 >= _SATURDAY
    return np.asarray(local % DAY_QUARTERS // 4 + 24 * is_weekend, np.int64)


def _offsets(quarters: Quarters, zone: ZoneInfo) -> Quarters:
    """Return local time minus UTC, in quarters."""
    ends = (int(quarters.min() - 200) * QUARTER_S, int(quarters.max() + 200) * QUARTER_S)
    changes, offsets = _changes(zone, *(datetime.fromtimestamp(end, UTC).year for end in ends))
    return offsets[np.searchsorted(changes, quarters, side="right")]


@lru_cache(maxsize=64)
def _changes(zone: ZoneInfo, begin: int, end: int) -> tuple[Quarters, Quarters]:
    """Return the quarters in which the offset changes in some years, and the offsets before, between and after."""
    time = datetime(begin, 1, 1, tzinfo=UTC)
    offsets, changes = [_offset(time, zone)], []
    while time.year <= end:
        after = time + timedelta(days=1)
        if _offset(after, zone) != offsets[-1]:
            while _offset(time, zone) == offsets[-1]:
                time += timedelta(seconds=QUARTER_S)
            changes.append(int(time.timestamp()) // QUARTER_S)
            offsets.append(_offset(time, zone))
        time = after
    return np.array(changes, np.int64), np.array(offsets, np.int64)


def _offset(time: datetime, zone: ZoneInfo) -> int:
    return int((time.astimezone(zone).utcoffset() or timedelta()).total_seconds()) // QUARTER_S


# The forms of a time, for help and error texts.
FORMS = "ISO 8601 with its offset, such as 2026-11-01T00:00:00-04:00 or 2026-11-01T04:00Z, or UTC epoch seconds"
# The forms where the town's time zone is known.
LOCAL_FORMS = f"{FORMS}; a local day, month or time, such as 2026-11-01, 2026-11 or 2026-11-01T18:00"

_WITHOUT_HYPHENS = re.compile(r"(19|20)\d\d(\d\d){0,2}")
_MONTH_TEXT = re.compile(r"\d{4}-\d{2}")
_SHORTEST = len("2026-11-01")


def parse_time(text: str, name: str, zone: ZoneInfo | None = None) -> EpochSeconds:
    """Return the time that a text gives.

    Args:
        name: The option or parameter that has it, for errors; empty: they don't name it.
        zone: The time zone of times without an offset; ``None``: they are refused.

    Raises:
        ConfigError: The text is no time, a local time does not exist or exists twice, or it is out of range.
    """
    text, name = text.strip(), f"{name}: " if name else ""
    if _WITHOUT_HYPHENS.fullmatch(text):
        raise ConfigError(f"{name}{text} is no time of this century; a date has hyphens, such as 2026-11-01")
    is_number = text.isascii() and text.isdecimal() and len(text) <= 20
    found = int(text) if is_number else _seconds(text, name, zone)
    if not 0 <= found <= MAX_EPOCH:
        raise ConfigError(f"{name}{text} is not between 1970 and 2106")
    return found


def _seconds(text: str, name: str, zone: ZoneInfo | None) -> EpochSeconds:
    try:
        # The short and the week forms of ISO 8601 are too easily mistaken for a number.
        whole = f"{text}-01" if _MONTH_TEXT.fullmatch(text) else text
        if len(whole) < _SHORTEST or whole[4] != "-" or "W" in whole:
            raise ValueError(text)
        found = datetime.fromisoformat(whole)
    except ValueError as error:
        raise ConfigError(f"{name}{text!r:.50} is no time; give {FORMS if zone is None else LOCAL_FORMS}") from error
    if found.microsecond:
        raise ConfigError(f"{name}{text} is not in whole seconds")
    if found.tzinfo is None:
        if zone is None:
            raise ConfigError(f"{name}{text} has no offset from UTC; give {FORMS}")
        try:
            found = local_moment(found, zone)
        except ValueError as error:
            raise ConfigError(f"{name}{error}") from error
    return int(found.timestamp())


def iso(time: EpochSeconds) -> str:
    """Return a time as ISO 8601 in UTC, to the second."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
