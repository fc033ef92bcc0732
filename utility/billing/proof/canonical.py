"""The one form of a record as JSON bytes, so that two programs hash the same bytes.

Keys are sorted, there is no white space, every character is ASCII. Amounts and rates are strings with all their
digits, energies and times are whole numbers. No floating-point number is allowed.
"""

import json
from dataclasses import fields, is_dataclass
from decimal import Decimal
from enum import Enum
from typing import Any

Json = Any  # what ``json.loads`` returns


def canonical(value: Json) -> bytes:
    """Return the canonical JSON of a plain value.

    Raises:
        TypeError: The value holds a floating-point number, or a value that is not JSON.
    """
    _refuse_floats(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def plain(value: object) -> Json:
    """Return a record, such as a bill, as a plain value for ``canonical``."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Decimal):
        return format(value, "f")
    if is_dataclass(value):
        return {name: plain(each) for name, each in said(value).items()}
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value


def said(record: Any) -> dict[str, Any]:
    """Return the fields of a record by name; those of later versions (``bill.later``) only where they say something."""
    found = {field.name: (getattr(record, field.name), field) for field in fields(record)}
    return {name: v for name, (v, each) in found.items() if not ("later" in each.metadata and v == each.default)}


def _refuse_floats(value: Json) -> None:
    if isinstance(value, float):
        raise TypeError(f"{value!r}: a canonical record has no floating-point numbers")
    if isinstance(value, dict):
        for key, each in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{key!r}: a canonical record has only text as keys")
            _refuse_floats(each)
    elif isinstance(value, list | tuple):
        for each in value:
            _refuse_floats(each)
