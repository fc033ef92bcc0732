"""Dates of the registry as text: local time, ISO 8601 with an offset, or epoch seconds; each on a quarter-hour."""

import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from commonwatt.model.units import MAX_EPOCH, QUARTER_S, EpochSeconds, Quarter

_SHAPE = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d)?(Z|[+-]\d\d:\d\d)?)?")

_EPOCH = re.compile(r"\d{9,10}")
"""Fewer digits are a date without its hyphens."""


def parse_quarter(text: str, zone: ZoneInfo) -> Quarter:
    """Return the quarter that begins at a time; a date alone is its local midnight.

    Raises:
        ValueError: It is no such time, it is not on a quarter-hour, or its local time does not exist or exists twice.
    """
    seconds = _seconds(text, zone)
    if not 0 <= seconds <= MAX_EPOCH:
        raise ValueError(f"{text} is outside the years 1970 to 2106")
    if seconds % QUARTER_S:
        raise ValueError(f"{text} is not on a quarter-hour (:00, :15, :30, :45)")
    return seconds // QUARTER_S


def date_text(quarter: Quarter, zone: ZoneInfo) -> str:
    """Return the begin of a quarter in local time with its offset, which ``parse_quarter`` reads."""
    return datetime.fromtimestamp(quarter * QUARTER_S, zone).isoformat(timespec="minutes")


def _seconds(text: str, zone: ZoneInfo) -> EpochSeconds:
    if _EPOCH.fullmatch(text):
        return int(text)
    try:
        time = datetime.fromisoformat(text) if _SHAPE.fullmatch(text) else None
    except ValueError:
        time = None
    if time is None:
        raise ValueError(f"{text!r} is no time: write 2026-11-01, or 2026-11-01T14:15, or 2026-11-01T14:15-04:00")
    if time.tzinfo is None:
        time = _local(text, time, zone)
    return int(time.timestamp())


def _local(text: str, time: datetime, zone: ZoneInfo) -> datetime:
    """Return a wall time of a zone, which must exist once."""
    first, second = (time.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
    if first.utcoffset() == second.utcoffset():
        return first
    if first.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != time:
        raise ValueError(f"{text} does not exist in {zone.key}: clocks go forward then")
    raise ValueError(
        f"{text} exists twice in {zone.key}: clocks go back then; write {first.isoformat(timespec='minutes')} or "
        f"{second.isoformat(timespec='minutes')}"
    )
