"""Numbers that look like a register, of devices that announce nothing."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from decimal import Decimal

from adapters.mapping.payloads import FORMATS, MAX_BYTES
from adapters.mapping.values import UnreadableError
from adapters.recordings import Recorded

MAX_NUMBERS = 20_000  # most numbers that are watched; values of further ones are counted


def registers_in(messages: Iterable[Recorded]) -> tuple[list[tuple[str, str, Decimal, Decimal]], int]:
    """Return topic, path, first and last value of numbers that never fell, what rose first; and the values left out."""
    seen, left_out = dict[tuple[str, str], tuple[Decimal, Decimal] | None](), 0
    for message in messages:
        for path, value in _numbers(message.payload.strip()):
            place = (message.topic, path)
            if place not in seen and len(seen) >= MAX_NUMBERS:
                left_out += 1
                continue
            first, last = seen.get(place, (value, value)) or (value, Decimal("Infinity"))
            seen[place] = (first, value) if value >= max(last, Decimal(0)) else None
    found = [(*place, *values) for place, values in seen.items() if values is not None]
    return sorted(found, key=lambda one: (one[2] == one[3], one)), left_out


def _numbers(payload: bytes) -> Iterator[tuple[str, Decimal]]:
    form = {b"{": "json", b"[": "senml", b"/": "p1"}.get(payload[:1], "csv" if b"," in payload else "plain")
    with suppress(UnreadableError):
        yield from FORMATS[form](payload).numbers() if len(payload) <= MAX_BYTES else ()
