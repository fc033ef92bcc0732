"""The formats of foreign payloads, each as values at paths."""

import re
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from typing import Any, Protocol

from adapters.mapping.values import UnreadableError, at_path, json_of, number, number_or_nothing, split_path, summed

MAX_BYTES = 65_536  # largest payload that is read; larger ones are ignored and counted
_DEEPEST = 8  # most keys of a path that ``numbers`` yields
# Characters of keys and names that a path can't have; JSON has halves of surrogate pairs, a file can't.
_UNNAMEABLE = re.compile(r"[\\\0{}*\ud800-\udfff]")

_SENML_RELATIVE_BELOW = 2**28
_SENML_LONGEST_NAME = 256
# A value has no parenthesis: else the time for a telegram of openings would grow with the square of its length.
_P1_LINE = re.compile(r"(\d-\d:\d+\.\d+\.\d+)\(([^()]*)\)(?:\(([^()]*)\))?", re.ASCII)
_P1_TIME = "0-0:1.0.0"
_NUMBER_START = re.compile(r"\s*([-+0-9.eE]+)", re.ASCII)


class Payload(Protocol):
    """A parsed payload."""

    def value(self, path: str) -> Decimal | None:
        """Return the number at a path; ``None``: it is missing.

        Raises:
            UnreadableError: It is no number.
        """

    def unit(self, path: str) -> str:
        """Return the unit that the payload states for the number at a path; empty: none, the rule's counts."""
        del path
        return ""

    def text(self, path: str) -> str | None:
        """Return the text at a path, such as a time; ``None``: it is missing."""

    def numbers(self) -> Iterator[tuple[str, Decimal]]:
        """Yield each number with its path."""


class JsonPayload(Payload):
    """A JSON payload; the elements of a list are added up. An empty payload has no values: the device is gone."""

    def __init__(self, payload: bytes) -> None:
        """Parse it.

        Raises:
            UnreadableError: It is not JSON.
        """
        self.content: Any = json_of(payload) if payload.strip() else None

    def value(self, path: str) -> Decimal | None:
        """As ``Payload.value``."""
        return summed(at_path(self.content, split_path(path)))

    def text(self, path: str) -> str | None:
        """As ``Payload.text``."""
        found = at_path(self.content, split_path(path))
        return found if isinstance(found, str) and found else None

    def numbers(self) -> Iterator[tuple[str, Decimal]]:
        """As ``Payload.numbers``."""
        for path, text in _texts_in(self.content, ()):
            if (found := _number_or_none(text)) is not None:
                yield path, found


class PlainPayload(Payload):
    """A payload that is one number."""

    def __init__(self, payload: bytes) -> None:
        """Take it as text.

        Raises:
            UnreadableError: It is no text.
        """
        self._text = _text_of(payload).strip()

    def value(self, path: str) -> Decimal | None:
        """Return the number, whatever the path."""
        del path
        return number_or_nothing(self._text)

    def text(self, path: str) -> str | None:
        """Return the text, whatever the path."""
        del path
        return self._text

    def numbers(self) -> Iterator[tuple[str, Decimal]]:
        """As ``Payload.numbers``; the path is empty."""
        if (found := _number_or_none(self._text)) is not None:
            yield "", found


class CsvPayload(PlainPayload):
    """Numbers with commas; a path is the position of one, from 1."""

    def value(self, path: str) -> Decimal | None:
        """As ``Payload.value``."""
        found = self.text(path)
        return None if found is None else number_or_nothing(found)

    def text(self, path: str) -> str | None:
        """As ``Payload.text``."""
        fields = self._text.split(",")
        return fields[int(path) - 1].strip() if path.isdecimal() and 0 < int(path) <= len(fields) else None

    def numbers(self) -> Iterator[tuple[str, Decimal]]:
        """As ``Payload.numbers``."""
        for place, text in enumerate(self._text.split(","), 1):
            if (found := _number_or_none(text.strip())) is not None:
                yield str(place), found


class SenmlPayload(Payload):
    """A SenML pack (RFC 8428); a path is the name of a record, the base name included.

    At the path ``NAME UNIT`` is the same value, but only if the pack states this unit. The time of a record is at the
    path ``NAME time``.
    """

    def __init__(self, payload: bytes) -> None:
        """Resolve the names of its records.

        Raises:
            UnreadableError: It is no SenML.
        """
        pack = json_of(payload)
        if not isinstance(pack, list) or len(pack) > 1000:
            raise UnreadableError("not SenML: no list of records")
        self._values: dict[str, tuple[Any, Any]] = {}
        self._units: dict[str, str] = {}
        self._times: dict[str, tuple[Any, Any]] = {}
        base: dict[str, Any] = {}
        for record in pack:
            if not isinstance(record, dict):
                raise UnreadableError("not SenML: a record is no object")
            base |= {key: record[key] for key in ("bn", "bt", "bu", "bv", "bs") if key in record}
            name = f"{base.get('bn', '')}{record.get('n', '')}"
            if len(name) > _SENML_LONGEST_NAME:
                raise UnreadableError("not usable SenML: a name is too long")
            value, base_value = ("v", "bv") if "v" in record else ("s", "bs")
            if record.get(value) is not None:
                found = record[value], base.get(base_value, "0")
                unit = str(record.get("u", base.get("bu", "")))
                # A sum is of the values over the seconds.
                self._units[name] = unit = "J" if (value, unit) == ("s", "W") else unit
                self._values[name] = self._values[f"{name} {unit}"] = found
                if "t" in record or "bt" in base:
                    self._times[name] = record.get("t", "0"), base.get("bt", "0")

    def value(self, path: str) -> Decimal | None:
        """As ``Payload.value``."""
        found = self._values.get(path)
        return None if found is None else number(found[0]) + number(found[1])

    def unit(self, path: str) -> str:
        """As ``Payload.unit``."""
        return self._units.get(path, "")

    def text(self, path: str) -> str | None:
        """Return the time of a record; ``None``: it has none, or one relative to the arrival."""
        found = self._times.get(path.removesuffix(" time"))
        time = None if found is None else number(found[0]) + number(found[1])
        return str(time) if time is not None and time >= _SENML_RELATIVE_BELOW else None

    def numbers(self) -> Iterator[tuple[str, Decimal]]:
        """As ``Payload.numbers``; of records with a unit, whose name has no blank."""
        for path, (value, base) in self._values.items():
            name, blank, unit = path.partition(" ")
            if blank and unit and " " not in unit and not _UNNAMEABLE.search(name):
                with suppress(UnreadableError):
                    yield path, number(value) + number(base)


class TelegramPayload(Payload):
    """A DSMR P1 telegram; a path is an OBIS code, such as 1-0:1.8.1."""

    def __init__(self, payload: bytes) -> None:
        """Find its values.

        Raises:
            UnreadableError: It has none.
        """
        self._found = {code: last or first for code, first, last in _P1_LINE.findall(_text_of(payload))}
        if not self._found:
            raise UnreadableError("not a telegram: no OBIS code in it")

    def value(self, path: str) -> Decimal | None:
        """As ``Payload.value``."""
        text = self._found.get(path)
        if text is None:
            return None
        value = _NUMBER_START.match(text)
        return number(value[1] if value else text)

    def text(self, path: str) -> str | None:
        """As ``Payload.text``; the path ``time`` is the telegram's own time."""
        return self._found.get(_P1_TIME if path == "time" else path)

    def numbers(self) -> Iterator[tuple[str, Decimal]]:
        """As ``Payload.numbers``; of OBIS codes with a unit."""
        for code, text in self._found.items():
            if "*" in text and (found := _number_or_none(text.partition("*")[0])) is not None:
                yield code, found


FORMATS: dict[str, type[Payload]] = {
    "json": JsonPayload,
    "plain": PlainPayload,
    "senml": SenmlPayload,
    "p1": TelegramPayload,
    "csv": CsvPayload,
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


def _number_or_none(value: object) -> Decimal | None:
    try:
        return number_or_nothing(value)
    except UnreadableError:
        return None


def _text_of(payload: bytes) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise UnreadableError("no text") from None
