"""Numbers and times in foreign payloads, without floating point; which of them to believe."""

import json
import re
import struct
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from functools import cache
from typing import Any, NoReturn
from zoneinfo import ZoneInfo

from adapters.energy.counter import EpochMilliseconds
from commonwatt.model.units import MilliwattHours

MAX_TEXT = 28  # longest number in a payload, characters: as many digits as decimal arithmetic keeps exactly
ANY_KEY = "*"  # the key of a path that stands for any one key of an object

_NOTHING = ("", "nan", "null", "none", "unknown", "unavailable")

# NaN and Infinity are no JSON, but devices send them.
_DECODER = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=str)

_MAX_EXPONENT = 18
_MAX = 2**53

PER_UNIT: Mapping[str, Fraction] = {
    "mWh": Fraction(1),
    "Wh": Fraction(1_000),
    "kWh": Fraction(1_000_000),
    "MWh": Fraction(1_000_000_000),
    "J": Fraction(10, 36),
    "Wmin": Fraction(1_000, 60),
    "mW": Fraction(1),
    "W": Fraction(1_000),
    "kW": Fraction(1_000_000),
    # Hundredths of a capacity, which the caller multiplies.
    "%": Fraction(1, 100),
}
"""Milliwatt-hours, or milliwatts, in each unit."""

_SPELLED = {"wh": "Wh", "kwh": "kWh", "w": "W", "kw": "kW", "j": "J"}

# The digit at the end, and the letter after it, keep the time in proportion to the length.
_WITH_UNIT = re.compile(r"\s*([-+]?[\d.,]*\d(?:[eE][-+]?\d+)?)\s*((?![eE][-+\d])[^\W\d_]\w*|%)\s*", re.ASCII)
_GERMAN_NUMBER = re.compile(r"\s*([-+]?(?:\d+|\d{1,3}(?:\.\d{3})+)(?:,\d+)?)\s*([^\W\d_]\w*|%)?\s*", re.ASCII)
_HEXADECIMAL = re.compile(r"\s*(?:0[xX])?([0-9a-fA-F]{1,16})\s*")
_LONGEST = MAX_TEXT + 12  # characters of a number with a unit

ENERGY_UNITS = {"mWh", "Wh", "kWh", "MWh", "J", "Wmin"}
POWER_UNITS = {"mW", "W", "kW"}


class UnreadableError(ValueError):
    """A payload, or a value in it, can't be used; the message is the reason for people."""


def json_of(payload: bytes) -> Any:
    """Parse JSON, with its numbers as text."""
    try:
        return _DECODER.decode(payload.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"not JSON: {error}") from None


def number(value: object) -> Decimal:
    """Return a finite decimal number from its text.

    Raises:
        UnreadableError: It is not a number, too long or too large.
    """
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        _refuse("a number", value)
    try:
        found = Decimal(value)
    except InvalidOperation:
        raise UnreadableError(f"not a number: {value!r}") from None
    if not found.is_finite() or found.adjusted() > _MAX_EXPONENT:
        _refuse("a usable number", value)
    return found


def decimal(value: object) -> tuple[Decimal, str]:
    """Return a number and the unit after it; empty: none. As ``german`` and ``hexadecimal``, refuse anything else."""
    try:
        return number(value), ""
    except UnreadableError as error:
        if not isinstance(value, str) or len(value) > _LONGEST:
            raise
        if "," in value and _GERMAN_NUMBER.fullmatch(value):
            raise UnreadableError(
                f'not a number: {value!r}; with a decimal comma its rule has number = "de"'
            ) from error
        if (parts := _WITH_UNIT.fullmatch(value)) is None:
            raise
        return number(parts[1]), parts[2]


def german(value: object) -> tuple[Decimal, str]:
    """Return a number with a decimal comma, and dots between thousands, and its unit."""
    if not isinstance(value, str) or len(value) > _LONGEST or (parts := _GERMAN_NUMBER.fullmatch(value)) is None:
        _refuse("a number with a decimal comma", value)
    return number(parts[1].replace(".", "").replace(",", ".")), parts[2] or ""


def hexadecimal(value: object) -> tuple[Decimal, str]:
    """Return a number without sign from up to 16 hexadecimal digits, which has no unit."""
    if not isinstance(value, str) or (found := _HEXADECIMAL.fullmatch(value)) is None:
        _refuse("hexadecimal", value)
    return Decimal(int(found[1], 16)), ""


NOTATIONS: Mapping[str, Callable[[object], tuple[Decimal, str]]] = {"en": decimal, "de": german, "hex": hexadecimal}
"""How numbers are written, by their name in rules."""


def float_of(bits: Decimal) -> Decimal | None:
    """Return the 4-byte float (IEEE 754) that has these bits; ``None``: it is no number."""
    if not 0 <= bits < 2**32 or bits != int(bits):
        _refuse("the bits of a 4-byte float", bits)
    found = Decimal(struct.unpack(">f", int(bits).to_bytes(4, "big"))[0])
    if found.is_infinite() or found.adjusted() > _MAX_EXPONENT:
        _refuse("a usable number", found)
    return None if found.is_nan() else found


def _refuse(what: str, value: object) -> NoReturn:
    raise UnreadableError(f"not {what}: {str(value)[:MAX_TEXT]!r}")


def scaled(value: Decimal, factor: Fraction) -> MilliwattHours:
    """Return ``value`` times ``factor``, rounded down to a whole number."""
    # Digits far below a milliwatt-hour would make a Fraction of any size.
    if value.adjusted() < -_MAX_EXPONENT:
        return 0
    above, below = value.as_integer_ratio()
    result = above * factor.numerator // (below * factor.denominator)
    if abs(result) > _MAX:
        raise UnreadableError(f"too large: {value}")
    return result


def converted(value: Decimal, stated: str, unit: str) -> Decimal:
    """Return a number of a stated unit, empty: of the rule's, in the rule's unit."""
    if stated in ("", unit) or unit == "%":
        return value
    stated = _SPELLED.get(stated.lower(), stated)
    if not any({stated, unit} <= units for units in (ENERGY_UNITS, POWER_UNITS)):
        raise UnreadableError(f"in {stated}, not {unit}")
    factor = PER_UNIT[stated] / PER_UNIT[unit]
    return value * factor.numerator / factor.denominator


def at_path(content: Any, path: tuple[str, ...]) -> Any:
    """Return the value at a path of object keys and list positions; ``None``: there is none.

    The key ``*`` is any one key: the path goes on from the only one that has a value there.
    """
    for place, key in enumerate(path):
        if isinstance(content, dict):
            if key == ANY_KEY and key not in content:
                found = [one for child in content.values() if (one := at_path(child, path[place + 1 :])) is not None]
                return found[0] if len(found) == 1 else None
            content = content.get(key)
        elif isinstance(content, list) and key.isdecimal() and len(key) < 4 and int(key) < len(content):
            content = content[int(key)]
        else:
            return None
    return content


@cache
def split_path(path: str) -> tuple[str, ...]:
    r"""Return the keys of a dotted path; ``\.`` is a dot in a key."""
    return tuple(part.replace("\0", ".") for part in path.replace(r"\.", "\0").split("."))


def summed(value: Any, notation: Callable[[object], tuple[Decimal, str]]) -> tuple[Decimal, str] | None:
    """Return a number and its unit, or the sum of a list of numbers; ``None``: the value is missing or null."""
    if value is None:
        return None
    if not isinstance(value, list):
        try:
            return notation(value)
        except UnreadableError:
            if isinstance(value, str) and value.strip().lower() in _NOTHING:
                return None
            raise
    if not 0 < len(value) <= 16:
        raise UnreadableError(f"a list of {len(value)} values")
    found = [notation(one) for one in value]
    if len({unit for _, unit in found}) > 1:
        raise UnreadableError("a list of several units")
    return sum((one for one, _ in found), Decimal(0)), found[0][1]


TOLERANCE_MS = 300_000  # most milliseconds between a device's time and the arrival of its message
QUEUED_MS = 7 * 86_400_000  # most milliseconds that a message may be late if its source keeps messages

# From which number on an epoch counts milliseconds, microseconds, nanoseconds.
_FINER_FROM = (10**11, 10**14, 10**17)
_DSMR = re.compile(r"(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})([SW])", re.ASCII)
_GERMAN_DATE = re.compile(r"(\d\d)\.(\d\d)\.(\d{4})", re.ASCII)
_FEWEST_DIGITS = 9


def times_of(value: object, zone: ZoneInfo) -> tuple[EpochMilliseconds, ...]:
    """Return the instants that a device's time may mean: two in the hour that comes twice in autumn."""
    if not isinstance(value, str) or len(value) > 40:
        raise UnreadableError(f"no time: {str(value)[:40]!r}")
    text = value.strip()
    if text[-1:] in ("S", "W") and (dsmr := _DSMR.fullmatch(text)) is not None:
        year, month, day, hour, minute, second = (int(part) for part in dsmr.groups()[:6])
        # Central European time: S is summer time, one hour more.
        offset = timezone(timedelta(hours=2 if dsmr[7] == "S" else 1))
        return (_ms(_made(text, 2000 + year, month, day, hour, minute, second).replace(tzinfo=offset)),)
    if text[2:3] == ".":
        text = _GERMAN_DATE.sub(r"\3-\2-\1", text, count=1)
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
