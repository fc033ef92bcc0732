"""The formats of foreign payloads, each as samples with values at paths."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Any

from adapters.mapping.values import UnreadableError, at_path, decimal, json_of, number, split_path

MAX_BYTES = 65_536  # largest payload that is read; larger ones are ignored and counted
_MOST_SAMPLES = 1000  # most lines or SenML records of a payload
_MOST_BYTES = 8  # most bytes of a whole number
_DEEPEST = 8  # most keys of a path that ``numbers`` yields
# Characters of keys and names that a path can't have; JSON has halves of surrogate pairs, a file can't.
_UNNAMEABLE = re.compile(r"[\\\0{}*\ud800-\udfff]")

_NO_UNITS: dict[str, str] = {}
_SENML_RELATIVE_BELOW = 2**28
_LONGEST_NAME = 256  # most characters of a SenML name and unit, or of Influx's measurement and tags
# A value has no parenthesis: else the time for a telegram of openings would grow with the square of its length.
_P1_LINE = re.compile(r"(\d-\d:\d+\.\d+\.\d+)\(([^()]*)\)(?:\(([^()]*)\))?", re.ASCII)
_P1_TIME = "0-0:1.0.0"
_INFLUX_LINE = re.compile(r'((?:\\.|[^\\ ])+) ((?:\\.|"(?:\\.|[^\\"])*"|[^\\" ])+)(?: (-?\d+))?', re.ASCII)
_INFLUX_FIELD = re.compile(r'(?:\\.|"(?:\\.|[^\\"])*"|[^\\",])+')
_INFLUX_MEASUREMENT = re.compile(r"(?:\\.|[^\\,])+")


class Sample:
    """The values of one moment in a payload: texts by their path."""

    def __init__(self, texts: dict[str, str | UnreadableError]) -> None:
        self.by_path = texts
        self.units: dict[str, str] = {}  # the units that the payload states, by path; else the rule's unit counts
        self.is_late = False  # whether its source kept it until it could send it

    def found(self, path: str) -> Any:
        """Return the text at a path, or a list of texts, which are added up; ``None``: it is missing.

        Raises:
            UnreadableError: It can't be read, or at ``*`` nothing can be.
        """
        found = self.by_path.get(path, self.by_path.get("*"))
        if isinstance(found, UnreadableError):
            raise found
        return found

    def text(self, path: str) -> str | None:
        """Return the text at a path, such as a time; ``None``: it is missing."""
        found = self.by_path.get(path)
        return found if isinstance(found, str) else None


class Moments:
    """Samples by their time; a name that comes again at the same time begins a further sample."""

    def __init__(self) -> None:
        self._samples: dict[tuple[Decimal, int], Sample] = {}
        self._again: Counter[tuple[Decimal, str]] = Counter()

    def at(self, time: Decimal, name: str) -> Sample:
        """Return the sample to which a value belongs."""
        self._again[time, name] += 1
        return self._samples.setdefault((time, self._again[time, name]), Sample({}))

    @property
    def samples(self) -> list[Sample]:
        """The samples in order of time."""
        return [self._samples[key] for key in sorted(self._samples)]


class Payload:
    """A parsed payload; without a format that says more it is one text, whose path is empty."""

    def __init__(self, payload: bytes) -> None:
        """Find its samples, or raise ``UnreadableError``."""
        self._samples = list(self._found_in(payload))

    @property
    def samples(self) -> Sequence[Sample]:
        """Its samples, in their order."""
        return self._samples

    def _found_in(self, payload: bytes) -> Iterator[Sample]:
        yield Sample({"": _text_of(payload).strip()})

    def numbers(self) -> Iterator[tuple[str, Decimal]]:
        """Yield each number with its path."""
        for path, text in self.texts():
            with suppress(UnreadableError):
                yield path, number(text)

    def texts(self) -> Iterator[tuple[str, object]]:
        """Yield each number and text, as text, with its path."""
        return (item for sample in self.samples for item in sample.by_path.items())


class JsonPayload(Payload, Sample):
    """A JSON payload; the elements of a list are added up. An empty payload has no values: the device is gone."""

    def __init__(self, payload: bytes) -> None:
        self.units, self.is_late = _NO_UNITS, False
        self.content: Any = json_of(payload) if payload.strip() else None

    @property
    def samples(self) -> Sequence[Sample]:
        """As ``Payload.samples``."""
        return (self,)

    def found(self, path: str) -> Any:
        """As ``Sample.found``."""
        return at_path(self.content, split_path(path))

    def text(self, path: str) -> str | None:
        """As ``Sample.text``."""
        found = at_path(self.content, split_path(path))
        return found if isinstance(found, str) and found else None

    def texts(self) -> Iterator[tuple[str, str]]:
        """As ``Payload.texts``."""
        return _texts_in(self.content, ())


class BytesPayload(Payload):
    """A whole number without sign in bytes, the high one first."""

    def _found_in(self, payload: bytes) -> Iterator[Sample]:
        if len(payload) > _MOST_BYTES:
            raise UnreadableError(f"{len(payload)} bytes, more than {_MOST_BYTES}")
        yield Sample({"": str(int.from_bytes(payload, "big"))} if payload else {})


class CsvPayload(Payload):
    """Lines of numbers with semicolons, tabs or commas; a path is the position of one, from 1."""

    def _found_in(self, payload: bytes) -> Iterator[Sample]:
        for line in _lines_of(payload):
            separator = next((one for one in ";\t" if one in line), ",")
            yield Sample({str(place): text.strip() for place, text in enumerate(line.split(separator), 1)})


class InfluxPayload(Payload):
    """Lines of Influx's protocol; a path is ``time``, or a measurement with all tags or none, a blank and a field."""

    def _found_in(self, payload: bytes) -> Iterator[Sample]:
        for line in _lines_of(payload):
            parts = _INFLUX_LINE.fullmatch(line)
            measurement = None if parts is None else _INFLUX_MEASUREMENT.match(parts[1])
            if parts is None or measurement is None or len(parts[1]) > _LONGEST_NAME:
                yield Sample({"*": UnreadableError(f"not Influx's line protocol: {line[:40]!r}")})
                continue
            texts: dict[str, str | UnreadableError] = {} if parts[3] is None else {"time": parts[3]}
            for field in _INFLUX_FIELD.findall(parts[2]):
                name, _, text = field.partition("=")
                text = text[1:-1] if text.startswith('"') else text.rstrip("iu")
                texts |= {f"{measurement[0]} {name}": text, f"{parts[1]} {name}": text}
            yield Sample(texts)


class SenmlPayload(Payload):
    """A SenML pack (RFC 8428); a path is the name of a record, the base name included.

    At the path ``NAME UNIT`` is the same value, but only if the pack states this unit. The unit is at ``NAME unit``,
    the time at ``NAME time``: ``now`` and seconds, if it is relative to the arrival.
    """

    def _found_in(self, payload: bytes) -> Iterator[Sample]:
        """Yield the records of one time as a sample, in order of time; a name that comes again is a further one."""
        pack = json_of(payload)
        if not isinstance(pack, list) or len(pack) > _MOST_SAMPLES:
            raise UnreadableError(f"not SenML: no list of at most {_MOST_SAMPLES} records")
        found = Moments()
        base: dict[str, Any] = {}
        for record in pack:
            if not isinstance(record, dict):
                raise UnreadableError("not SenML: a record is no object")
            base |= {key: record[key] for key in ("bn", "bt", "bu", "bv", "bs") if key in record}
            name = f"{base.get('bn', '')}{record.get('n', '')}"
            unit = str(record.get("u", base.get("bu", "")))
            if len(name) + len(unit) > _LONGEST_NAME:
                raise UnreadableError("not usable SenML: a name is too long")
            value, base_value = ("v", "bv") if "v" in record else ("s", "bs")
            if record.get(value) is None:
                continue
            try:
                time = number(record.get("t", "0")) + number(base.get("bt", "0"))
                text = str(number(record[value]) + number(base.get(base_value, "0")))
            except UnreadableError as error:
                yield Sample({name: error})
                continue
            is_relative = time < _SENML_RELATIVE_BELOW
            sample = found.at(time, name)
            # A sum is of the values over the seconds.
            sample.units[name] = unit = "J" if (value, unit) == ("s", "W") else unit
            sample.by_path |= {name: text, f"{name} {unit}": text, f"{name} unit": unit}
            if "t" in record or "bt" in base:
                sample.by_path[f"{name} time"] = f"now{time}" if is_relative else str(time)
        yield from found.samples

    def numbers(self) -> Iterator[tuple[str, Decimal]]:
        """As ``Payload.numbers``; of records with a unit, whose name has no blank."""
        for sample in self.samples:
            for name, unit in sample.units.items():
                if unit and " " not in unit and " " not in name and not _UNNAMEABLE.search(name):
                    yield f"{name} {unit}", number(sample.by_path[name])


class TelegramPayload(Payload):
    """A DSMR P1 telegram; a path is an OBIS code, such as 1-0:1.8.1, or ``time``, the telegram's own."""

    def _found_in(self, payload: bytes) -> Iterator[Sample]:
        found = {code: (last or first).replace("*", " ") for code, first, last in _P1_LINE.findall(_text_of(payload))}
        if not found:
            raise UnreadableError("not a telegram: no OBIS code in it")
        yield Sample(found if _P1_TIME not in found else found | {"time": found[_P1_TIME]})

    def numbers(self) -> Iterator[tuple[str, Decimal]]:
        """As ``Payload.numbers``; of OBIS codes with a unit."""
        for code, text in self.samples[0].by_path.items():
            with suppress(UnreadableError):
                value, unit = decimal(text)
                if unit and " " in str(text):
                    yield code, value


FORMATS: dict[str, type[Payload]] = {
    "json": JsonPayload,
    "plain": Payload,
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
