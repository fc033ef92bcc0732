"""``adapter learn``: numbers that look like a register."""

from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal

from adapters.mapping.payloads import FORMATS, MAX_BYTES
from adapters.mapping.values import UnreadableError

MAX_NUMBERS = 20_000  # most numbers that are watched; values of further ones are counted


class Registers:
    """The numbers in messages."""

    def __init__(self) -> None:
        self.left_out = 0  # values that are not watched
        # First and last value by topic and path; ``None``: it fell, or was below zero.
        self._numbers: dict[tuple[str, str], tuple[Decimal, Decimal] | None] = {}

    @property
    def found(self) -> list[tuple[str, str, Decimal, Decimal]]:
        """Topic, path, first and last value of numbers that never fell; what rose comes first."""
        found = [(*place, *values) for place, values in self._numbers.items() if values is not None]
        return sorted(found, key=lambda one: (one[2] == one[3], one))

    def take(self, topic: str, payload: bytes) -> None:
        """Take a message."""
        for path, value in _numbers(payload.strip()):
            before = self._numbers.get((topic, path), (value, value))
            if (topic, path) not in self._numbers and len(self._numbers) >= MAX_NUMBERS:
                self.left_out += 1
            else:
                falls = before is None or value < max(before[1], Decimal(0))
                self._numbers[topic, path] = None if before is None or falls else (before[0], value)


def _numbers(payload: bytes) -> Iterator[tuple[str, Decimal]]:
    form = {b"{": "json", b"[": "senml", b"/": "p1"}.get(payload[:1], "csv" if b"," in payload else "plain")
    with suppress(UnreadableError):
        yield from FORMATS[form](payload).numbers() if len(payload) <= MAX_BYTES else ()  # type: ignore[call-arg]
