"""The formats of foreign payloads, each as samples with values at paths."""

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Any

from adapters.mapping.values import UnreadableError, at_path, decimal, json_of, number, split_path

MAX_BYTES = 65_536  # largest payload that is read; larger ones are ignored and counted
_MOST_SAMPLES = 1000  # most lines of a payload
_MOST_BYTES = 8  # most bytes of a whole number
_DEEPEST = 8  # most keys of a path that ``numbers`` yields
# Characters of keys and names that a path can't have; JSON has halves of surrogate pairs, a file can't.
_UNNAMEABLE = re.compile(r"[\\\0{}*\ud800-\udfff]")

# A value has no parenthesis: else the time for a telegram of openings would grow with the square of its length.
_P1_LINE = re.compile(r"(\d-\d:\d+\.\d+\.\d+)\(([^()]*)\)(?:\(([^()]*)\))?", re.ASCII)
_P1_TIME = "0-0:1.0.0"


class PayloadSample:
    """The values of one moment in a payload: texts by their path."""

    def __init__(self, texts: dict[str, str]) -> None:
        self.by_path = texts
        self.is_late = False  # whether its source kept it until it could send it

    def found(self, path: str) -> Any:
        """Return the text at a path, or a list of texts, which are added up; ``None``: it is missing."""
        return self.by_path.get(path)

    def text(self, path: str) -> str | None:
        """Return the text at a path, such as a time; ``None``: it is missing."""
        return self.by_path.get(path)


class Payload:
    """A parsed payload; without a format that says more it is one text, whose path is empty."""

    def __init__(self, payload: bytes) -> None:
        """Find its samples, or raise ``UnreadableError``."""
        self._samples = list(self._found_in(payload))

    @property
    def samples(self) -> Sequence[PayloadSample]:
        """Its samples, in their order."""
        return self._samples

    def _found_in(self, payload: bytes) -> Iterator[PayloadSample]:
        yield PayloadSample({"": _text_of(payload).strip()})

    def numbers(self) -> Iterator[tuple[str, Decimal]]:
        """Yield each number with its path."""
        for path, text in self.texts():
            with suppress(UnreadableError):
                yield path, number(text)

    def texts(self) -> Iterator[tuple[str, str]]:
        """Yield each number and text, as text, with its path."""
        return (item for sample in self.samples for item in sample.by_path.items())


class JsonPayload(Payload, PayloadSample):
    """A JSON payload; the elements of a list are added up. An empty payload has no values: the device is gone."""

    def __init__(self, payload: bytes) -> None:
        self.is_late = False
        self.content: Any = json_of(payload) if payload.strip() else None

    @property
    def samples(self) -> Sequence[PayloadSample]:
        """As ``Payload.samples``."""
        return (self,)

    def found(self, path: str) -> Any:
        """As ``PayloadSample.found``."""
        return at_path(self.content, split_path(path))

    def text(self, path: str) -> str | None:
        """As ``PayloadSample.text``."""
        found = at_path(self.content, split_path(path))
        return found if isinstance(found, str) and found else None

    def texts(self) -> Iterator[tuple[str, str]]:
        """As ``Payload.texts``."""
        return _texts_in(self.content, ())


class BytesPayload(Payload):
    """A whole number without sign in bytes, the high one first."""

    def _found_in(self, payload: bytes) -> Iterator[PayloadSample]:
        if len(payload) > _MOST_BYTES:
            raise UnreadableError(f"{len(payload)} bytes, more than {_MOST_BYTES}")
        yield PayloadSample({"": str(int.from_bytes(payload, "big"))} if payload else {})


class CsvPayload(Payload):
    """Lines of numbers with semicolons, tabs or commas; a path is the position of one, from 1."""

    def _found_in(self, payload: bytes) -> Iterator[PayloadSample]:
        for line in _lines_of(payload):
            separator = next((one for one in ";\t" if one in line), ",")
            yield PayloadSample({str(place): text.strip() for place, text in enumerate(line.split(separator), 1)})


class TelegramPayload(Payload):
    """A DSMR P1 telegram; a path is an OBIS code, such as 1-0:1.8.1, or ``time``, the telegram's own."""

    def _found_in(self, payload: bytes) -> Iterator[PayloadSample]:
        found = {code: (last or first).replace("*", " ") for code, first, last in _P1_LINE.findall(_text_of(payload))}
        if not found:
            raise UnreadableError("not a telegram: no OBIS code in it")
        yield PayloadSample(found if _P1_TIME not in found else found | {"time": found[_P1_TIME]})

    def numbers(self) -> Iterator[tuple[str, Decimal]]:
        """As ``Payload.numbers``; of OBIS codes with a unit."""
        for code, text in self.samples[0].by_path.items():
            with suppress(UnreadableError):
                value, unit = decimal(text)
                if unit and " " in text:
                    yield code, value


FORMATS: dict[str, type[Payload]] = {
    "json": JsonPayload,
    "plain": Payload,
    "p1": TelegramPayload,
    "csv": CsvPayload,
    "bytes": BytesPayload,
}
"""The formats by their name in rules."""


def _texts_in(content: Any, path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    if len(path) > _DEEPEST:
        return
    if isinstance(content, dict):
        for key, value in content.items():
            if key and not _UNNAMEABLE.search(key):
                yield from _texts_in(value, (*path, key.replace(".", r"\.")))
    elif isinstance(content, list):
        for place, value in enumerate(content):
            yield from _texts_in(value, (*path, str(place)))
    elif isinstance(content, str):
        yield ".".join(path), content


def _lines_of(payload: bytes) -> list[str]:
    lines = [line.strip() for line in _text_of(payload).splitlines() if line.strip()]
    if len(lines) > _MOST_SAMPLES:
        raise UnreadableError(f"{len(lines)} lines, more than {_MOST_SAMPLES}")
    return lines


def _text_of(payload: bytes) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise UnreadableError("no text") from None
