"""The formats of foreign payloads, each as samples with values at paths."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Any, Protocol

from adapters.mapping.values import UnreadableError, at_path, decimal, json_of, number, number_or_nothing, split_path

MAX_BYTES = 65_536  # largest payload that is read; larger ones are ignored and counted
_MOST_SAMPLES = 1000  # most lines or SenML records of a payload
_MOST_BYTES = 8  # most bytes of a whole number
_DEEPEST = 8  # most keys of a path that ``numbers`` yields
# Characters of keys and names that a path can't have; JSON has halves of surrogate pairs, a file can't.
_UNNAMEABLE = re.compile(r"[\\\0{}*\ud800-\udfff]")

_NO_UNITS: dict[str, str] = {}
_SENML_RELATIVE_BELOW = 2**28
_SENML_LAST = 10**12
_LONGEST_NAME = 256  # most characters of a SenML name and unit, or of Influx's measurement and tags
# A value has no parenthesis: else the time for a telegram of openings would grow with the square of its length.
_P1_LINE = re.compile(r"(\d-\d:\d+\.\d+\.\d+)\(([^()]*)\)(?:\(([^()]*)\))?", re.ASCII)
_P1_TIME = "0-0:1.0.0"
_INFLUX_LINE = re.compile(r'((?:\\.|[^\\ ])+) ((?:\\.|"(?:\\.|[^\\"])*"|[^\\" ])+)(?: (-?\d+))?', re.ASCII)
_INFLUX_FIELD = re.compile(r'(?:\\.|"(?:\\.|[^\\"])*"|[^\\",])+')
_INFLUX_MEASUREMENT = re.compile(r"(?:\\.|[^\\,])+")


class Sample(Protocol):
    """The values of one moment in a payload."""

    is_late: bool = False  # whether its source kept it until it could send it
    units: dict[str, str]  # the units that the payload states, by the path of the number; else the rule's counts

    def found(self, path: str) -> Any:
        """Return the text at a path, or a list of texts, which are added up; ``None``: it is missing.

        Raises:
            UnreadableError: The sample can't be read; others of its payload can.
        """

    def text(self, path: str) -> str | None:
        """Return the text at a path, such as a time; ``None``: it is missing."""


class Payload(Protocol):
    """A parsed payload."""

    @property
    def samples(self) -> Sequence[Sample]:
        """Its samples, in their order."""

    def numbers(self) -> Iterator[tuple[str, Decimal]]:
        """Yield each number with its path."""


class JsonPayload(Payload, Sample):
    """A JSON payload; the elements of a list are added up. An empty payload has no values: the device is gone."""

    def __init__(self, payload: bytes) -> None:
        """Parse it.

        Raises:
            UnreadableError: It is not JSON.
        """
        self.content: Any = json_of(payload) if payload.strip() else None
        self.units = _NO_UNITS

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

    def numbers(self) -> Iterator[tuple[str, Decimal]]:
        """As ``Payload.numbers``."""
        for path, text in self.texts():
            if (found := _number_or_none(text)) is not None:
                yield path, found

    def texts(self) -> Iterator[tuple[str, str]]:
        """Yield each number and text, as text, with its path."""
        return _texts_in(self.content, ())


class Texts(Sample):
    """Texts by their path."""

    def __init__(self, texts: dict[str, str | UnreadableError]) -> None:
        self.texts = texts
        self.units = {}

    def found(self, path: str) -> Any:
        """As ``Sample.found``; a fault at ``*`` is the fault of every path."""
        found = self.texts.get(path, self.texts.get("*"))
        if isinstance(found, UnreadableError):
            raise found
        return found

    def text(self, path: str) -> str | None:
        """As ``Sample.text``."""
        found = self.texts.get(path)
        return found if isinstance(found, str) else None


class Moments:
    """Samples by their time; a name that comes again at the same time begins a further sample."""

    def __init__(self) -> None:
        self._samples: dict[tuple[Decimal, int], Texts] = {}
        self._again: Counter[tuple[Decimal, str]] = Counter()

    def at(self, time: Decimal, name: str) -> Texts:
        """Return the sample to which a value belongs."""
        self._again[time, name] += 1
        return self._samples.setdefault((time, self._again[time, name]), Texts({}))

    @property
    def samples(self) -> list[Texts]:
        """The samples in order of time."""
        return [self._samples[key] for key in sorted(self._samples)]


class PlainPayload(Payload):
    """A payload that is one number; its path is empty."""

    def __init__(self, payload: bytes) -> None:
        """Find its samples.

        Raises:
            UnreadableError: It is of another format.
        """
        self._samples = list(self._found_in(payload))

    @property
    def samples(self) -> Sequence[Texts]:
        """As ``Payload.samples``."""
        return self._samples

    def _found_in(self, payload: bytes) -> Iterator[Texts]:
        yield Texts({"": _text_of(payload).strip()})

    def numbers(self) -> Iterator[tuple[str, Decimal]]:
        """As ``Payload.numbers``."""
        for sample in self.samples:
            for path, text in sample.texts.items():
                if (found := _number_or_none(text)) is not None:
                    yield path, found


class BytesPayload(PlainPayload):
    """A whole number without sign in bytes, the high one first."""

    def _found_in(self, payload: bytes) -> Iterator[Texts]:
        if len(payload) > _MOST_BYTES:
            raise UnreadableError(f"{len(payload)} bytes, more than {_MOST_BYTES}")
        yield Texts({"": str(int.from_bytes(payload, "big"))} if payload else {})


class CsvPayload(PlainPayload):
    """Lines of numbers with semicolons, tabs or commas; a path is the position of one, from 1."""

    def _found_in(self, payload: bytes) -> Iterator[Texts]:
        for line in _lines_of(payload):
            separator = next((one for one in ";\t" if one in line), ",")
            yield Texts({str(place): text.strip() for place, text in enumerate(line.split(separator), 1)})


class InfluxPayload(PlainPayload):
    """Lines of Influx's protocol; a path is ``time``, or a measurement with all tags or none, a blank and a field."""

    def _found_in(self, payload: bytes) -> Iterator[Texts]:
        for line in _lines_of(payload):
            parts = _INFLUX_LINE.fullmatch(line)
            measurement = None if parts is None else _INFLUX_MEASUREMENT.match(parts[1])
            if parts is None or measurement is None or len(parts[1]) > _LONGEST_NAME:
                yield Texts({"*": UnreadableError(f"not Influx's line protocol: {line[:40]!r}")})
                continue
            texts: dict[str, str | UnreadableError] = {} if parts[3] is None else {"time": parts[3]}
            for field in _INFLUX_FIELD.findall(parts[2]):
                name, _, text = field.partition("=")
                text = text[1:-1] if text.startswith('"') else text.rstrip("iu")
                texts |= {f"{measurement[0]} {name}": text, f"{parts[1]} {name}": text}
            yield Texts(texts)


class SenmlPayload(PlainPayload):
    """A SenML pack (RFC 8428); a path is the name of a record, the base name included.

    At the path ``NAME UNIT`` is the same value, but only if the pack states this unit. The unit is at ``NAME unit``,
    the time at ``NAME time``: ``now`` and seconds, if it is relative to the arrival.
    """

    def _found_in(self, payload: bytes) -> Iterator[Texts]:
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
                yield Texts({name: error})
                continue
            is_relative = time < _SENML_RELATIVE_BELOW
            sample = found.at(time + _SENML_LAST if is_relative else time, name)
            # A sum is of the values over the seconds.
            sample.units[name] = unit = "J" if (value, unit) == ("s", "W") else unit
            sample.texts |= {name: text, f"{name} {unit}": text, f"{name} unit": unit}
            if "t" in record or "bt" in base:
                sample.texts[f"{name} time"] = f"now{time:+f}" if is_relative else str(time)
        yield from found.samples

    def numbers(self) -> Iterator[tuple[str, Decimal]]:
        """As ``Payload.numbers``; of records with a unit, whose name has no blank."""
        for sample in self.samples:
            for name, unit in sample.units.items():
                if unit and " " not in unit and " " not in name and not _UNNAMEABLE.search(name):
                    yield f"{name} {unit}", number(sample.text(name))


class TelegramPayload(PlainPayload):
    """A DSMR P1 telegram; a path is an OBIS code, such as 1-0:1.8.1, or ``time``, the telegram's own."""

    def _found_in(self, payload: bytes) -> Iterator[Texts]:
        found = {code: (last or first).replace("*", " ") for code, first, last in _P1_LINE.findall(_text_of(payload))}
        if not found:
            raise UnreadableError("not a telegram: no OBIS code in it")
        yield Texts(found if _P1_TIME not in found else found | {"time": found[_P1_TIME]})

    def numbers(self) -> Iterator[tuple[str, Decimal]]:
        """As ``Payload.numbers``; of OBIS codes with a unit."""
        for code, text in self.samples[0].texts.items():
            with suppress(UnreadableError):
                value, unit = decimal(text)
                if unit and " " in str(text):
                    yield code, value


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


def _lines_of(payload: bytes) -> list[str]:
    """Return the lines of a payload that are not empty, at most ``_MOST_SAMPLES``.

    Raises:
        UnreadableError: It is no text, or has more lines.
    """
    lines = [line for line in _text_of(payload).splitlines() if line.strip()]
    if len(lines) > _MOST_SAMPLES:
        raise UnreadableError(f"{len(lines)} lines, more than {_MOST_SAMPLES}")
    return [line.strip() for line in lines]


def _text_of(payload: bytes) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise UnreadableError("no text") from None
