"""Numbers in foreign payloads: from decimal text to whole milliwatt-hours or milliwatts, never through floats."""

import json
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from functools import cache
from typing import Any

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

ENERGY_UNITS = {"mWh", "Wh", "kWh", "MWh", "J", "Wmin"}
POWER_UNITS = {"mW", "W", "kW"}


class UnreadableError(ValueError):
    """A payload, or a value in it, can't be used; the message is the reason for people."""


def json_of(payload: bytes) -> Any:
    """Parse JSON, with its numbers as text.

    Raises:
        UnreadableError: It is not JSON.
    """
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
        raise UnreadableError(f"not a number: {str(value)[:MAX_TEXT]!r}")
    try:
        found = Decimal(value)
    except InvalidOperation:
        raise UnreadableError(f"not a number: {value!r}") from None
    if not found.is_finite() or found.adjusted() > _MAX_EXPONENT:
        raise UnreadableError(f"not a usable number: {value!r}")
    return found


def number_or_nothing(value: object) -> Decimal | None:
    """Return a finite decimal number; ``None`` if the text means no value, such as ``nan``.

    Raises:
        UnreadableError: It is something else.
    """
    try:
        return number(value)
    except UnreadableError:
        if isinstance(value, str) and value.strip().lower() in _NOTHING:
            return None
        raise


def scaled(value: Decimal, factor: Fraction) -> MilliwattHours:
    """Return ``value`` times ``factor``, rounded down to a whole number.

    Raises:
        UnreadableError: It is above 2^53 milliwatt-hours.
    """
    # Digits far below a milliwatt-hour would make a Fraction of any size.
    if value.adjusted() < -_MAX_EXPONENT:
        return 0
    above, below = value.as_integer_ratio()
    result = above * factor.numerator // (below * factor.denominator)
    if abs(result) > _MAX:
        raise UnreadableError(f"too large: {value}")
    return result


def converted(value: Decimal, stated: str, unit: str) -> Decimal:
    """Return a number of a stated unit, empty: of the rule's, in the rule's unit.

    Raises:
        UnreadableError: One is a unit of energy and the other is not, or one of power.
    """
    if stated in ("", unit) or unit == "%":
        return value
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


def summed(value: Any) -> Decimal | None:
    """Return a number, or the sum of a list of numbers; ``None``: the value is missing or null.

    Raises:
        UnreadableError: It is something else.
    """
    if value is None:
        return None
    if isinstance(value, list):
        if not 0 < len(value) <= 16:
            raise UnreadableError(f"a list of {len(value)} values")
        return sum((number(one) for one in value), Decimal(0))
    return number_or_nothing(value)
