"""The formats of foreign payloads, each as values at paths."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Any, Protocol

from adapters.mapping.values import UnreadableError, at_path, json_of, number, number_or_nothing, split_path

MAX_BYTES = 65_536  # largest payload that is read; larger ones are ignored and counted
_DEEPEST = 8  # most keys of a path that ``numbers`` yields
# Characters of keys and names that a path can't have; JSON has halves of surrogate pairs, a file can't.
_UNNAMEABLE = re.compile(r"[\\\0{}*\ud800-\udfff]")

_SENML_RELATIVE_BELOW = 2**28
_SENML_LAST = 10**12
_SENML_LONGEST_NAME = 256
# A value has no parenthesis: else the time for a telegram of openings would grow with the square of its length.
_P1_LINE = re.compile(r"(\d-\d:\d+\.\d+\.\d+)\(([^()]*)\)(?:\(([^()]*)\))?", re.ASCII)
_P1_TIME = "0-0:1.0.0"
_INFLUX_LINE = re.compile(r'((?:\\.|[^\\ ])+) ((?:\\.|"(?:\\.|[^\\"])*"|[^\\" ])+)(?: (-?\d+))?', re.ASCII)
_INFLUX_FIELD = re.compile(r'(?:\\.|"(?:\\.|[^\\"])*"|[^\\",])+')
_INFLUX_EQUALS = re.compile(r"(?<!\\)=")
_INFLUX_COMMA = re.compile(r"(?<!\\),")
_MOST_RECORDS = 1000  # most records or lines of a payload
_MOST_BYTES = 8  # most bytes of a number
_LONGEST_RANGE = 12


class Sample(Protocol):
    """The values of one moment in a payload."""

    is_late: bool = False  # whether its source kept it until it could send it

    def found(self, path: str) -> Any:
        """Return the text at a path, or a list of texts, which are added up; ``None``: it is missing."""

    def unit(self, path: str) -> str:
        """Return the unit that the payload states for the number at a path; empty: none, the rule's counts."""
        del path
        return ""

    def text(self, path: str) -> str | None:
        """Return the text at a path, such as a time; ``None``: it is missing."""
        del path
        return None


class Payload(Protocol):
    """A parsed payload."""

    def samples(self) -> "Sequence[Sample]":
        """Return its samples, in their order."""

    def numbers(self) -> Iterator[tuple[str, Decimal]]:
        """Yield each number with its path."""


class _One(Payload, Sample):
    """A payload that is one sample."""

    def samples(self) -> Sequence[Sample]:
        """As ``Payload.samples``."""
        return (self,)


class JsonPayload(_One):
    """A JSON payload; the elements of a list are added up. An empty payload has no values: the device is gone."""

    def __init__(self, payload: bytes) -> None:
        """Parse it.

        Raises:
            UnreadableError: It is not JSON.
        """
        self.content: Any = json_of(payload) if payload.strip() else None

    def found(self, path: str) -> Any:
        """As ``Sample.found``."""
        return at_path(self.content, split_path(path))

    def text(self, path: str) -> str | None:
        """As ``Sample.text``."""
        found = at_path(self.content, split_path(path))
        return found if isinstance(found, str) and found else None

    def numbers(self) -> Iterator[tuple[str, Decimal]]:
        """As ``Payload.numbers``."""
        for path, text in self.texts():
            if (found := _number_or_none(text)) is not None:
                yield path, found

    def texts(self) -> Iterator[tuple[str, str]]:
        """Yield each number and text, as text, with its path."""
        return _texts_in(self.content, ())


class PlainPayload(_One):
    """A payload that is one number."""

    def __init__(self, payload: bytes) -> None:
        """Take it as text.

        Raises:
            UnreadableError: It is no text.
        """
        self._text = _text_of(payload).strip()

    def found(self, path: str) -> Any:
        """Return the text, whatever the path."""
        return self.text(path)

    def text(self, path: str) -> str | None:
        """Return the text, whatever the path."""
        del path
        return self._text

    def numbers(self) -> Iterator[tuple[str, Decimal]]:
        """As ``Payload.numbers``; the path is empty."""
        if (found := _number_or_none(self._text)) is not None:
            yield "", found


class BytesPayload(_One):
    """A whole number without sign in bytes, the high one first; a path is a range of positions, such as ``0:4``."""

    def __init__(self, payload: bytes) -> None:
        self._bytes = payload

    def found(self, path: str) -> Any:
        """As ``Sample.found``; of at most 8 bytes."""
        begin, colon, end = path.partition(":")
        if path and not (colon and begin.isdecimal() and end.isdecimal() and len(path) < _LONGEST_RANGE):
            raise UnreadableError(f"no range of bytes: {path!r}")
        part = self._bytes[int(begin) : int(end)] if path else self._bytes
        if len(part) > _MOST_BYTES:
            raise UnreadableError(f"{len(part)} bytes, more than {_MOST_BYTES}")
        return str(int.from_bytes(part, "big")) if part and (not path or len(part) == int(end) - int(begin)) else None

    def text(self, path: str) -> str | None:
        """Return nothing."""
        del path
        return None

    def numbers(self) -> Iterator[tuple[str, Decimal]]:
        """Yield nothing."""
        return iter(())


class _Line(Sample):
    """A line of numbers with semicolons, tabs or commas; a path is the position of one, from 1."""

    def __init__(self, line: str) -> None:
        separator = next((one for one in ";\t" if one in line), ",")
        self.fields = [field.strip() for field in line.split(separator)]

    def found(self, path: str) -> Any:
        """As ``Sample.found``."""
        return self.text(path)

    def text(self, path: str) -> str | None:
        """As ``Sample.text``."""
        return self.fields[int(path) - 1] if path.isdecimal() and 0 < int(path) <= len(self.fields) else None


class CsvPayload(Payload):
    """Lines of numbers."""

    def __init__(self, payload: bytes) -> None:
        """Split it.

        Raises:
            UnreadableError: It is no text.
        """
        self._lines = [_Line(line) for line in _lines_of(payload)]

    def samples(self) -> Sequence[Sample]:
        """As ``Payload.samples``."""
        return self._lines

    def numbers(self) -> Iterator[tuple[str, Decimal]]:
        """As ``Payload.numbers``."""
        for line in self._lines:
            for place, text in enumerate(line.fields, 1):
                if (found := _number_or_none(text)) is not None:
                    yield str(place), found


class _InfluxLine(Sample):
    """A line of Influx's protocol; a path is a measurement, its tags if they matter, a blank and a field."""

    def __init__(self, series: str, fields: str, time: str | None) -> None:
        self._series = frozenset(_INFLUX_COMMA.split(series))
        self._measurement = _INFLUX_COMMA.split(series, maxsplit=1)[0]
        pairs = (_INFLUX_EQUALS.split(each, maxsplit=1) for each in _INFLUX_FIELD.findall(fields))
        self._fields: dict[str, str] = {pair[0]: pair[-1] for pair in pairs}
        self._time = time

    def found(self, path: str) -> Any:
        """As ``Sample.found``."""
        series, _, name = path.rpartition(" ")
        measurement, *tags = _INFLUX_COMMA.split(series)
        if measurement != self._measurement or not self._series.issuperset(tags):
            return None
        found = self._fields.get(name)
        return None if found is None else found.strip('"').removesuffix("i").removesuffix("u")

    def text(self, path: str) -> str | None:
        """As ``Sample.text``; the path ``time`` is the line's own time."""
        return self._time if path == "time" else self.found(path)


class InfluxPayload(Payload):
    """Lines of Influx's protocol."""

    def __init__(self, payload: bytes) -> None:
        """Parse them.

        Raises:
            UnreadableError: It is no text.
        """
        lines = ((text, _INFLUX_LINE.fullmatch(text)) for text in _lines_of(payload))
        self._lines: list[Sample] = [
            _Broken(f"not Influx's line protocol: {text[:40]!r}")
            if found is None
            else _InfluxLine(found[1], found[2], found[3])
            for text, found in lines
        ]

    def samples(self) -> Sequence[Sample]:
        """As ``Payload.samples``."""
        return self._lines

    def numbers(self) -> Iterator[tuple[str, Decimal]]:
        """Yield nothing."""
        return iter(())


class _Broken(Sample):
    """A sample that can't be read; the others of its payload can."""

    def __init__(self, fault: str) -> None:
        self._fault = fault

    def found(self, path: str) -> Any:
        """Raise why."""
        del path
        raise UnreadableError(self._fault)


class _Records(Sample):
    """The SenML records of one time."""

    def __init__(self, time: Decimal | None) -> None:
        self.time = time  # epoch seconds, or relative to the arrival; ``None``: the arrival
        self.records: dict[str, tuple[Any, Any, str]] = {}  # value, base value and unit of each, by its name

    def found(self, path: str) -> Any:
        """As ``Sample.found``."""
        name, _, unit = path.rpartition(" ")
        record = self.records.get(path)
        if record is None and (record := self.records.get(name)) is not None and record[2] != unit:
            record = None
        if record is None or record[1] is None:
            return None if record is None else record[0]
        return str(number(record[0]) + number(record[1]))

    def unit(self, path: str) -> str:
        """As ``Sample.unit``."""
        return self.records[path][2] if path in self.records else ""

    def text(self, path: str) -> str | None:
        """Return the unit at ``NAME unit``, else the time; of a time that is relative to the arrival ``now`` and it."""
        if path.endswith(" unit"):
            return self.unit(path.removesuffix(" unit")) or None
        if self.time is None or self.time >= _SENML_RELATIVE_BELOW:
            return None if self.time is None else str(self.time)
        return f"now{self.time:+f}"


class SenmlPayload(Payload):
    """A SenML pack (RFC 8428); a path is the name of a record, the base name included.

    At the path ``NAME UNIT`` is the same value, but only if the pack states this unit.
    """

    def __init__(self, payload: bytes) -> None:
        """Resolve its records: those of one time are a sample, and a name that comes again begins a further one.

        Raises:
            UnreadableError: It is no SenML.
        """
        pack = json_of(payload)
        if not isinstance(pack, list) or len(pack) > _MOST_RECORDS:
            raise UnreadableError(f"not SenML: no list of at most {_MOST_RECORDS} records")
        found: dict[tuple[Decimal | None, int], _Records] = {}
        again: Counter[tuple[Decimal | None, str]] = Counter()
        broken: list[Sample] = []
        base: dict[str, Any] = {}
        for record in pack:
            if not isinstance(record, dict):
                raise UnreadableError("not SenML: a record is no object")
            base |= {key: record[key] for key in ("bn", "bt", "bu", "bv", "bs") if key in record}
            name = f"{base.get('bn', '')}{record.get('n', '')}"
            if len(name) > _SENML_LONGEST_NAME:
                raise UnreadableError("not usable SenML: a name is too long")
            value, base_value = ("v", "bv") if "v" in record else ("s", "bs")
            if record.get(value) is None:
                continue
            try:
                time = number(record.get("t", "0")) + number(base.get("bt", "0"))
            except UnreadableError as error:
                broken.append(_Broken(f"no time of {name}: {error}"))
                continue
            at = time if "t" in record or "bt" in base else None
            sample = found.setdefault((at, again[at, name]), _Records(at))
            again[at, name] += 1
            unit = str(record.get("u", base.get("bu", "")))
            # A sum is of the values over the seconds.
            sample.records[name] = (
                record[value],
                base.get(base_value),
                "J" if (value, unit) == ("s", "W") else unit,
            )
        self._records = sorted(found.values(), key=_order)
        self._samples = [*self._records, *broken]

    def samples(self) -> Sequence[Sample]:
        """As ``Payload.samples``."""
        return self._samples

    def numbers(self) -> Iterator[tuple[str, Decimal]]:
        """As ``Payload.numbers``; of records with a unit, whose name has no blank."""
        for sample in self._records:
            for name, (_, _, unit) in sample.records.items():
                if unit and " " not in unit and " " not in name and not _UNNAMEABLE.search(name):
                    with suppress(UnreadableError):
                        yield f"{name} {unit}", number(sample.found(name))


class TelegramPayload(_One):
    """A DSMR P1 telegram; a path is an OBIS code, such as 1-0:1.8.1."""

    def __init__(self, payload: bytes) -> None:
        """Find its values.

        Raises:
            UnreadableError: It has none.
        """
        self._found = {code: last or first for code, first, last in _P1_LINE.findall(_text_of(payload))}
        if not self._found:
            raise UnreadableError("not a telegram: no OBIS code in it")

    def found(self, path: str) -> Any:
        """As ``Sample.found``."""
        text = self._found.get(path)
        return None if text is None else text.replace("*", " ", 1)

    def text(self, path: str) -> str | None:
        """As ``Sample.text``; the path ``time`` is the telegram's own time."""
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
    "influx": InfluxPayload,
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


def _number_or_none(value: object) -> Decimal | None:
    try:
        return number_or_nothing(value)
    except UnreadableError:
        return None


def _order(sample: _Records) -> Decimal:
    """Return what sorts SenML records by their time: times relative to the arrival are the last."""
    time = sample.time or Decimal(0)
    return time if time >= _SENML_RELATIVE_BELOW else time + _SENML_LAST


def _lines_of(payload: bytes) -> list[str]:
    """Return the lines of a payload that are not empty, at most ``_MOST_RECORDS``.

    Raises:
        UnreadableError: It is no text, or has more lines.
    """
    lines = [line for line in _text_of(payload).splitlines() if line.strip()]
    if len(lines) > _MOST_RECORDS:
        raise UnreadableError(f"{len(lines)} lines, more than {_MOST_RECORDS}")
    return [line.strip() for line in lines]


def _text_of(payload: bytes) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise UnreadableError("no text") from None
