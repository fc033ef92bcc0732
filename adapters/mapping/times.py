"""Times in foreign messages: epoch seconds to nanoseconds, ISO 8601, DSMR, 31.12.2026; which of them count."""

import re
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

from adapters.energy.spread import EpochMilliseconds
from adapters.mapping.values import UnreadableError, number

TOLERANCE_MS = 300_000  # most milliseconds between a device's time and the arrival of its message
QUEUED_MS = 7 * 86_400_000  # most milliseconds that a message may be late if its source keeps messages

# From which number on an epoch counts milliseconds, microseconds, nanoseconds.
_FINER_FROM = (10**11, 10**14, 10**17)
_DSMR = re.compile(r"(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})([SW])", re.ASCII)
_GERMAN = re.compile(r"(\d\d)\.(\d\d)\.(\d{4})", re.ASCII)
_FEWEST_DIGITS = 9


def times_of(value: object, zone: ZoneInfo, arrival: EpochMilliseconds | None = None) -> tuple[EpochMilliseconds, ...]:
    """Return the instants that a device's time may mean: two in the hour that comes twice in autumn.

    ``now`` and seconds are relative to the arrival; none without it.
    """
    if not isinstance(value, str) or len(value) > 40:
        raise UnreadableError(f"no time: {str(value)[:40]!r}")
    text = value.strip()
    if text[-1:] in ("S", "W") and (dsmr := _DSMR.fullmatch(text)) is not None:
        year, month, day, hour, minute, second = (int(part) for part in dsmr.groups()[:6])
        # Central European time: S is summer time, one hour more.
        offset = timezone(timedelta(hours=2 if dsmr[7] == "S" else 1))
        return (_ms(_made(text, 2000 + year, month, day, hour, minute, second).replace(tzinfo=offset)),)
    if text.startswith("now"):
        return () if arrival is None else (arrival + int(number(text[3:]) * 1000),)
    if text[2:3] == ".":
        text = _GERMAN.sub(r"\3-\2-\1", text, count=1)
    is_number = text[4:5] != "-" and text.replace(".", "", 1).isdecimal()
    try:
        found = None if is_number and len(text) >= _FEWEST_DIGITS else datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None:
        if not is_number:
            raise UnreadableError(f"no time: {text!r}")
        # A small number counts from the device's start: a clock of 1970, which is wrong.
        epoch = number(text)
        return (int(epoch * 1000 / 1000 ** sum(epoch >= finer for finer in _FINER_FROM)),)
    if found.tzinfo is not None:
        return (_ms(found),)
    summer = found.replace(tzinfo=zone)
    winter = summer.replace(fold=1)
    return (_ms(summer),) if summer.utcoffset() == winter.utcoffset() else (_ms(summer), _ms(winter))


def instant(
    possible: tuple[EpochMilliseconds, ...], arrival: EpochMilliseconds, *, queued: bool
) -> EpochMilliseconds | None:
    """Return the device's time if it counts; ``None``: the device's clock is wrong."""
    nearest = min(possible, key=lambda time: abs(time - arrival), default=None)
    if nearest is None:
        return None
    latest = arrival + TOLERANCE_MS
    earliest = arrival - (QUEUED_MS if queued else TOLERANCE_MS)
    return nearest if earliest <= nearest <= latest else None


def _made(text: str, *parts: int) -> datetime:
    try:
        return datetime(*parts)  # type: ignore[arg-type]  # noqa: DTZ001 - its zone follows
    except ValueError:
        raise UnreadableError(f"no time: {text!r}") from None


def _ms(time: datetime) -> EpochMilliseconds:
    try:
        return int(time.timestamp() * 1000)
    except (ValueError, OverflowError):
        raise UnreadableError(f"no time: {time}") from None
