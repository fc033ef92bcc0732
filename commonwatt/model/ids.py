"""Ids of meters and records: unsigned 64-bit numbers, written as decimal text."""

from typing import TypeAlias

MeterId: TypeAlias = int  # a meter's unsigned 64-bit id
# The form of an id in topics and as an identity: decimal digits without leading zeros.
ID_PATTERN = r"(?:0|[1-9][0-9]{0,19})"

_END = 2**64


def parse_id(text: str) -> int | None:
    """Return the id written as ``text``; ``None``: ``text`` is no id."""
    # The length first: Python raises ValueError for thousands of digits.
    number = int(text) if len(text) <= 20 and text.isascii() and text.isdecimal() else _END
    return number if number < _END else None


def signed64(number: int) -> int:
    """Return an unsigned 64-bit id as the signed integer of the same bits, for SQL columns."""
    return number - 2**64 if number >= 2**63 else number


def unsigned64(number: int) -> int:
    """Return the id whose ``signed64`` is ``number``."""
    return number % 2**64
