"""What a recording of a foreign broker holds: registers, powers and levels, the presets that read them, and TOML.

A number is recognised by the words of its path and topic, by a stated unit, or because it only rises.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from functools import cache
from itertools import cycle
from math import log
from typing import NamedTuple

from adapters.learning.guess import Guess, Series, guess, names_a_quantity, times_near, without_tariff, words_of
from adapters.mapping.payloads import FORMATS, MAX_BYTES, JsonPayload, Payload
from adapters.mapping.presets import Preset, known_presets
from adapters.mapping.values import PER_UNIT, UnreadableError
from adapters.recordings import Recorded
from commonwatt.config.adapter import AdapterRule

MAX_SERIES = 20_000  # most numbers that are watched; further ones are left out and counted
MAX_METERS = 1000  # most meters in the TOML, as many as an adapter's file can have

_HOUR_MS = 3_600_000
_LONGEST_TOPIC = 256
_LONGEST_CHANNEL = 64
_LEAST_EXPONENT = -100
_SHORTEST_MS = 30_000  # least milliseconds over which a register's rise is compared with a power
_SOLAR = words_of("pv pvinverter solar solarcharger")


class Proposal(NamedTuple):
    """A meter for the TOML."""

    series: Series  # the number that it is proposed for
    preset: str | None  # the preset's name; ``None``: a rule of its own
    source: str  # the meter's ``source``
    channel: str  # the meter's ``channel``
    direction: str  # the meter's direction
    unit: str  # the unit
    tariffs: tuple[Series, ...] = ()  # the registers of further tariffs, which are added up
    time: str = ""  # the path of the message's time; empty: none
    doubts: tuple[str, ...] = ()  # what a person must look up


@dataclass(kw_only=True)
class Learner:
    """Watches messages."""

    presets: Mapping[str, Preset] = field(default_factory=known_presets)  # the presets to look for
    # The numbers seen, by topic, format and path.
    series: dict[tuple[str, str, str], Series] = field(default_factory=dict)
    left_out: int = 0  # numbers beyond the most that are watched
    # By topic, the paths of texts that were a time near every arrival, and the doubt about each.
    _times: dict[str, dict[str, str]] = field(default_factory=dict)
    _powers: dict[str, Decimal] = field(default_factory=dict)  # greatest power at or below the topic of a device, watts
    # The registers that differ in their tariff only.
    _tariffs: dict[tuple[str, str, str], list[Series]] = field(default_factory=dict)
    # The unit of registers that state none, by what they share.
    _units: dict[tuple[str, str, str], str] = field(default_factory=dict)

    def take(self, message: Recorded) -> None:
        """Take a message; a retained one shows a topic, but neither a rise nor a fall."""
        if not message.topic or len(message.topic) > _LONGEST_TOPIC or set(message.topic) & set("+#{}\0"):
            # No key of an adapter's file can name it.
            return
        if not message.retained:
            self._find_times(message)
        for form, path, value in _numbers(message.payload):
            key = (message.topic, form, path)
            series = self.series.get(key)
            if series is None and len(self.series) >= MAX_SERIES:
                self.left_out += 1
            elif series is None or (series.retained and not message.retained):
                self.series[key] = Series(
                    topic=message.topic,
                    form=form,
                    path=path,
                    first=value,
                    last=value,
                    lowest=value,
                    since=message.at,
                    until=message.at,
                    retained=message.retained,
                )
            elif not message.retained:
                series.add(value, message.at)

    def _find_times(self, message: Recorded) -> None:
        """Keep the paths at which a JSON message has the time of its arrival, as those before it."""
        if not message.payload.lstrip().startswith(b"{") or message.at is None or len(self._times) >= MAX_SERIES:
            return
        with suppress(UnreadableError):
            near = dict(times_near(JsonPayload(message.payload), message.at))
            before = self._times.get(message.topic, near)
            self._times[message.topic] = {path: doubt for path, doubt in near.items() if path in before}

    def found(self) -> list[Series]:
        """Return the numbers that look like a register, a power or a level, by topic."""
        for series in self.series.values():
            series.guess = guess(series)
        found = sorted((one for one in self.series.values() if one.guess), key=lambda one: (one.topic, one.path))
        self._tariffs = defaultdict(list)
        alike: dict[tuple[str, str, str], list[Series]] = defaultdict(list)
        for one in found:
            self._tariffs[without_tariff(one)].append(one)
            alike[_register_of(one)].append(one)
        devices = {_device(one) for one in found}
        self._powers = {}
        for one in found:
            if one.guess is not None and one.guess.kind == "power":
                power = abs(one.last) * _factor(one.guess.unit)
                for above in devices.intersection(_above(one.topic)):
                    self._powers[above] = max(power, self._powers.get(above, power))
        self._units = {key: self._likely_unit(every) for key, every in alike.items()}
        return found

    def proposals(self) -> list[Proposal]:
        """Return the meters for the TOML: of presets where they match, else with a rule of their own."""
        found = self.found()
        known = list(self._by_preset(found))
        devices = {proposal.source for proposal in known} - {""}
        lengths = {device.count("/") + 1 for device in devices}
        others = [one for one in found if devices.isdisjoint(_within(one.topic, lengths))]
        places = {_place(proposal.series) for proposal in known}
        own = [self._proposal(one, tariffs) for one, *tariffs in _own(others, places)]
        return list(_once([*known, *own]))[:MAX_METERS]

    def _proposal(self, series: Series, tariffs: Sequence[Series]) -> Proposal:
        """Return the proposal of a rule for a number, with what stays unknown."""
        kind, unit, direction, doubt = series.guess or Guess("", "", "")
        times = self._times.get(series.topic, {}) if series.form == "json" else {}
        time, zone = min(times.items(), default=("", ""))
        time = {"p1": "time", "senml": f"{series.path.partition(' ')[0]} time"}.get(series.form, time)
        doubts = [doubt, zone, "" if unit or kind != "register" else "the unit is a guess: compare it with the device"]
        return Proposal(
            series=series,
            preset=None,
            source="",
            channel="0",
            direction=direction,
            unit=self.unit(series),
            tariffs=tuple(tariffs),
            time=time,
            doubts=tuple(filter(None, doubts)),
        )

    def unit(self, series: Series) -> str:
        """Return the unit of a number: the stated one, the one that fits a power beside it, or a likely one.

        Registers of one JSON message, or of one meter's tariffs, that state none have the same.
        """
        kind, unit, _, _ = series.guess or Guess("", "", "")
        if unit or kind != "register":
            return unit or "%"
        return self._units[_register_of(series)]

    def _likely_unit(self, alike: Sequence[Series]) -> str:
        """Return the unit of registers that state none and have the same one."""
        registers = [one for one in alike if one.guess is not None and one.guess[:2] == ("register", "")]
        found = next(filter(None, map(self._unit_by_power, registers)), "")
        return found or ("kWh" if any(one.has_decimals for one in registers) else "Wh")

    def _unit_by_power(self, series: Series) -> str:
        """Return the unit in which the register's rise is nearest to the energy of a power of the same device."""
        rise = series.last - series.first
        if rise <= 0 or series.since is None or series.until is None or series.until - series.since < _SHORTEST_MS:
            return ""
        energy_mwh = float(self._powers.get(_device(series), 0)) * (series.until - series.since) / _HOUR_MS
        if energy_mwh <= 0:
            return ""
        return min(("Wh", "kWh", "mWh"), key=lambda unit: abs(log(float(rise * _factor(unit)) / energy_mwh)))

    def _by_preset(self, found: Iterable[Series]) -> Iterator[Proposal]:
        seen = set(self.series)
        for series in found:
            best = max(self._matches(series, seen), key=lambda pair: pair[0], default=None)
            if best is not None:
                yield best[1]

    def _matches(self, series: Series, seen: set[tuple[str, str, str]]) -> Iterator[tuple[int, Proposal]]:
        """Yield the presets that read a number, with how much of their topic and path is literal."""
        assert series.guess is not None
        kind, unit, direction, doubt = series.guess
        if doubt:
            return
        for name, rule in ((one.name, rule) for one in self.presets.values() for rule in one.rules):
            solar = rule.type == "generation"
            if rule.format != series.form or rule.kind != kind or kind == "level" or solar > _is_solar(series):
                continue
            if (named := _names(rule, series)) is None or not self._is_whole(rule, named, series, seen):
                continue
            open_unit = (
                _is_open(rule)
                and rule.unit_path is None
                and rule.unit != (unit or self._unit_by_power(series) or rule.unit)
            )
            score = sum(len(word) for word in _literals(rule)) + solar
            way = "outgoing" if solar else rule.direction or direction
            # A register of the other direction that has never moved is no meter.
            channel = named.get("channel") or "0"
            if score and not open_unit and (way == "incoming" or series.last) and len(channel) <= _LONGEST_CHANNEL:
                stated = unit if rule.unit_path is not None else rule.unit
                yield score, Proposal(series, name, named.get("device") or "", channel, way, stated)

    def _is_whole(
        self, rule: AdapterRule, named: Mapping[str, str], series: Series, seen: set[tuple[str, str, str]]
    ) -> bool:
        """Return whether everything that a rule adds up and subtracts was seen."""

        def filled(text: str) -> str:
            return text.replace("{device}", named.get("device", "")).replace("{channel}", named.get("channel") or "0")

        topics = zip(rule.topic, cycle(_paths(rule)), strict=False) if len(rule.topic) > 1 else ()
        paths = {filled(path) for path in _paths(rule)} if series.form == "p1" else set()
        tariffs = {one.path for one in self._tariffs[without_tariff(series)]} if len(paths) > 1 else set()
        return (
            all((filled(topic), series.form, filled(path)) in seen for topic, path in topics)
            and all((series.topic, series.form, path) in seen for path in (*paths, *map(filled, rule.less)))
            and tariffs <= paths
        )


def _numbers(payload: bytes) -> Iterator[tuple[str, str, Decimal]]:
    """Yield format, path and value of each number in a payload, whatever its format."""
    if len(payload) <= MAX_BYTES:
        with suppress(UnreadableError):
            form, parsed = _parsed(payload.strip())
            yield from ((form, path, value) for path, value in parsed.numbers() if value.adjusted() >= _LEAST_EXPONENT)


def _parsed(payload: bytes) -> tuple[str, Payload]:
    form = {b"{": "json", b"[": "senml", b"/": "p1"}.get(payload[:1], "csv" if b"," in payload else "plain")
    try:
        return form, FORMATS[form](payload)
    except UnreadableError:
        if form != "senml":
            raise
    return "json", JsonPayload(payload)


_END = "\0"  # after a topic: the one character that no topic has


def _names(rule: AdapterRule, series: Series) -> Mapping[str, str] | None:
    """Return the device and channel for which a rule reads a number; ``None``: it does not."""
    matches = (pattern.fullmatch(f"{series.topic}{_END}{series.path}") for pattern in _patterns(rule))
    return next((match.groupdict() for match in matches if match is not None), None)


@cache
def _patterns(rule: AdapterRule) -> tuple[re.Pattern[str], ...]:
    """Return the patterns of topic, ``_END`` and path that a rule reads."""
    return tuple(_pattern(f"{topic}{_END}{path}", rule.format) for topic in rule.topic for path in _paths(rule))


def _pattern(text: str, form: str) -> re.Pattern[str]:
    text = re.escape(text).replace(r"\{", "{").replace(r"\}", "}").replace(r"\*\.", rf"[^.{_END}]+\.")
    for name, inner in (("device", f"[^{_END}]+"), ("channel", f"[^/{_END}]+?")):
        text = text.replace(f"{{{name}}}", f"(?P<{name}>{inner})", 1).replace(f"{{{name}}}", f"(?P={name})")
    # The elements of a list are added up; a number of SenML is named with its unit.
    return re.compile(text + {"json": r"(?:\.\d+)?", "senml": r"(?: \w+)?"}.get(form, ""))


def _paths(rule: AdapterRule) -> tuple[str, ...]:
    return rule.path or ("",)


@cache
def _literals(rule: AdapterRule) -> tuple[str, ...]:
    """Return the words of a rule's first topic and path, without placeholders."""
    return tuple(re.findall(r"[^/. *]+", re.sub(r"\{\w+\}", "", f"{rule.topic[0]}/{_paths(rule)[0]}")))


@cache
def _is_open(rule: AdapterRule) -> bool:
    """Return whether the name of the register is not the rule's: then its unit may be another one."""
    return not any(names_a_quantity(word) for word in (*_paths(rule), *_literals(rule)))


def _is_solar(series: Series) -> bool:
    return bool(words_of(series.topic) & _SOLAR)


def _once(proposals: Iterable[Proposal]) -> Iterator[Proposal]:
    """Yield each meter once, also if several of its topics or formats have the same register."""
    meters: set[tuple[str, str, str, str]] = set()
    readings: set[tuple[Decimal, Decimal, int, str]] = set()
    for proposal in proposals:
        series = proposal.series
        own = f"{series.topic}{_END}{series.path}"
        meter = (proposal.preset or own, proposal.source, proposal.channel, proposal.direction)
        reading = (series.first, series.last, series.rises, proposal.direction)
        if meter not in meters and not (series.rises and reading in readings):
            yield proposal
        meters.add(meter)
        readings.add(reading)


def _own(found: Iterable[Series], places: set[str]) -> Iterator[list[Series]]:
    """Yield registers that no preset reads, each with its tariffs, and powers of places that have none."""
    series = [(one, one.guess.kind) for one in found if one.guess is not None]
    registers = [one for one, kind in series if kind == "register"]
    moving = {_place(one) for one in registers if one.rises}
    # Export may rest while the recording is made.
    registers = [one for one in registers if one.rises or _exports(one) or _place(one) not in moving]
    places = places | {_place(one) for one in registers}
    tariffs: dict[tuple[str, str, str], list[Series]] = defaultdict(list)
    for one, kind in series:
        if kind == "register" and one.form in ("json", "plain", "p1"):
            tariffs[without_tariff(one)].append(one)
    yielded: set[int] = set()
    for one in registers:
        every = tariffs.get(without_tariff(one), [one])
        if id(every[0]) not in yielded:
            yield every
        yielded.add(id(every[0]))
    yield from ([one] for one, kind in series if kind == "power" and _place(one) not in places)


def _exports(series: Series) -> bool:
    return series.guess is not None and series.guess.direction == "outgoing" and series.last > 0


def _place(series: Series) -> str:
    """Return the part of a topic that the numbers of a device share."""
    if series.form == "json":
        return series.topic
    return series.topic.removesuffix("/state").rpartition("/")[0]


def _device(series: Series) -> str:
    """Return the topic at or below which the powers of a register's device are."""
    return (series.topic.rpartition("/")[0] if series.form == "plain" else series.topic).removesuffix("/state")


def _above(topic: str) -> Iterator[str]:
    """Yield a topic, and all topics above it up to the empty one."""
    yield topic
    while topic:
        topic = topic.rpartition("/")[0]
        yield topic


def _register_of(series: Series) -> tuple[str, str, str]:
    """Return what registers of the same unit share: their JSON message, or all but the tariff."""
    return (series.topic, series.form, "") if series.form == "json" else without_tariff(series)


def _within(topic: str, lengths: Iterable[int]) -> Iterator[str]:
    """Yield what a topic may name a device by: its runs of so many levels."""
    levels = topic.split("/")
    return ("/".join(levels[at : at + length]) for length in lengths for at in range(len(levels) - length + 1))


def _factor(unit: str) -> Decimal:
    factor: Fraction = PER_UNIT[unit]
    return Decimal(factor.numerator) / Decimal(factor.denominator)
