"""Times as people write them: ISO 8601 with an offset, or epoch seconds; local times where a time zone is known."""

import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.time.local_calendar import local_moment
from commonwatt.model.units import MAX_EPOCH, EpochSeconds

# The forms of a time, for help and error texts.
FORMS = "ISO 8601 with its offset, such as 2026-11-01T00:00:00-04:00 or 2026-11-01T04:00Z, or UTC epoch seconds"
# The forms where the town's time zone is known.
LOCAL_FORMS = f"{FORMS}; a local day, month or time, such as 2026-11-01, 2026-11 or 2026-11-01T18:00"

_WITHOUT_HYPHENS = re.compile(r"(19|20)\d\d(\d\d){0,2}")
_MONTH = re.compile(r"\d{4}-\d{2}")
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
        whole = f"{text}-01" if _MONTH.fullmatch(text) else text
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
