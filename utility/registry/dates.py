"""Dates of the registry as text: local time, ISO 8601 with an offset, or epoch seconds; each on a quarter-hour."""

from datetime import datetime
from zoneinfo import ZoneInfo

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.time.times import parse_time
from commonwatt.model.units import QUARTER_S, Quarter


def parse_quarter(text: str, zone: ZoneInfo) -> Quarter:
    """Return the quarter that begins at a time; a date alone is its local midnight.

    Raises:
        ValueError: It is no such time, it is not on a quarter-hour, or its local time does not exist or exists twice.
    """
    try:
        seconds = parse_time(text, "", zone)
    except ConfigError as error:
        raise ValueError(str(error)) from error
    if seconds % QUARTER_S:
        raise ValueError(f"{text} is not on a quarter-hour (:00, :15, :30, :45)")
    return seconds // QUARTER_S


def date_text(quarter: Quarter, zone: ZoneInfo) -> str:
    """Return the begin of a quarter in local time with its offset, which ``parse_quarter`` reads."""
    return datetime.fromtimestamp(quarter * QUARTER_S, zone).isoformat(timespec="minutes")


def date_words(quarter: Quarter, zone: ZoneInfo) -> str:
    """Return the begin of a quarter in local time for people."""
    return datetime.fromtimestamp(quarter * QUARTER_S, zone).strftime("%-d %b %Y %H:%M %Z")
