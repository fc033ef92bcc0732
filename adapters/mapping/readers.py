"""Readers: the rules of all meters and of presets, compiled; a message in, readings of our meters out."""

import re
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypeAlias
from zoneinfo import ZoneInfo

from adapters.energy.channel import ChannelRule
from adapters.energy.counter import CounterLimits, EpochMilliseconds
from adapters.mapping.payloads import FORMATS, MAX_BYTES, JsonPayload, PayloadSample
from adapters.mapping.sparkplug import KINDS, NAMESPACE, Node, check_node
from adapters.mapping.values import (
    NOTATIONS,
    PER_UNIT,
    UnreadableError,
    converted,
    decimal,
    float_of,
    scaled,
    summed,
    times_of,
)
from commonwatt.config.adapter import (
    JSON_INSTEAD,
    AdapterCommand,
    AdapterMeter,
    AdapterRule,
    AdapterSettings,
    check_topic,
)
from commonwatt.config.files import check_model
from commonwatt.model.exceptions import SettingError
from commonwatt.model.records import RecordType
from commonwatt.model.units import MeterId, MilliwattHours
from commonwatt.model.validation import MARGIN_PERCENT

OWN_PRESET = "preset %s: the rules and commands of this file count, not Commonwatt's of the same name"
_FOLDER = Path(__file__).parents[1] / "presets"


@dataclass(frozen=True, kw_only=True)
class Preset:
    """The rules for one maker's messages, and the commands for its devices."""

    name: str  # its name in ``preset`` of a meter
    title: str  # makers and devices
    source: str  # what a meter's ``source`` is, and its ``channel`` if it has one
    sources: tuple[str, ...]  # where the shape of the messages is documented
    notes: str  # what a person who sets up such a meter must know
    rules: tuple[AdapterRule, ...]  # the rules, in their order of preference for each record type
    commands: tuple[AdapterCommand, ...]  # the commands, one of a kind
    # How it is discovered: a short ``title``, perhaps the ``role`` of its devices, and the patterns of ``device`` and
    # ``channel``; an empty pattern of ``device``: it is not, since it reads any number.
    found: Mapping[str, str]


@cache
def known_presets() -> dict[str, Preset]:
    """Return Commonwatt's presets by name."""
    return {path.stem: _load(path) for path in sorted(_FOLDER.glob("*.toml"))}


def replaced_by(settings: AdapterSettings) -> list[str]:
    """Return the file's presets that count in place of Commonwatt's: one of a later release must not change a file."""
    return sorted(known_presets().keys() & {rule.preset for rule in settings.rule})


def presets_of(settings: AdapterSettings) -> dict[str, tuple[AdapterRule, ...]]:
    """Return the rules of every preset, including the presets in the adapter's own file."""
    found = {name: preset.rules for name, preset in known_presets().items()}
    found |= {rule.preset: () for rule in settings.rule}
    for rule in settings.rule:
        found[rule.preset] = (*found[rule.preset], rule)
    for n, meter in enumerate(settings.meter):
        for preset in (device.preset for device in meter.devices if device.preset not in found):
            there = JSON_INSTEAD if preset == "senml" else f"there are: {', '.join(sorted(found))}"
            raise SettingError(("meter", n, "preset"), f"[[meter]] {meter.id}: no preset {preset!r}; {there}")
    return found


def _load(path: Path) -> Preset:
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    every = {"preset": path.stem} | content.get("every_rule", {})
    rules = tuple(check_model(path, AdapterRule, every | rule) for rule in content["rule"])
    commands = content.get("command", [])
    return Preset(
        name=path.stem,
        title=content["title"],
        source=content["source"],
        sources=tuple(content["sources"]),
        notes=content["notes"],
        rules=rules,
        commands=tuple(check_model(path, AdapterCommand, {"preset": path.stem} | command) for command in commands),
        found=content["found"],
    )


POWER_GAP_S = 300  # most seconds between two powers over which energy counts
Found: TypeAlias = (
    Sequence[PayloadSample] | UnreadableError | None
)  # the samples of a message; ``None``: the device died
_LONGEST_MARK = 100  # characters of a restart mark that are compared and stored


@dataclass(frozen=True, kw_only=True, eq=False)
class Reader:
    """One rule for one meter."""

    meter: MeterId  # the meter
    source: str  # the name of the source on whose broker it is
    rule: AdapterRule  # the rule
    rank: int  # its place among the meter's rules of the same record type, from 0; the first is preferred
    record_type: RecordType  # the record type
    topics: tuple[str, ...]  # the topic filters, one for each number that is added up
    restart_topics: tuple[str, ...]  # topics of the device's reports of its start
    channel: ChannelRule  # what its channel needs
    exchanged: EpochMilliseconds | None  # when its device was exchanged: registers begin anew from then
    lowest: int | None  # which topic has a counter's lowest digits; ``None``: they are added up, or one
    # For each topic the paths to add up, each with its factor; ``None``: 1, below zero: subtracted.
    terms: tuple[tuple[tuple[str, Decimal | None], ...], ...]
    _notation: Callable[[object], tuple[Decimal, str]]
    _unit_path: str | None
    _factor: Fraction
    _zone: ZoneInfo
    _time: str | None
    _restart_path: str | None
    _restart_payload: re.Pattern[bytes]

    @property
    def places(self) -> Iterator[tuple[str, str]]:
        """Topic and path of each value that is added up or subtracted."""
        return ((topic, path) for topic, terms in zip(self.topics, self.terms, strict=True) for path, _ in terms)

    @property
    def where(self) -> str:
        """Where in a message the value is, for people."""
        terms = dict.fromkeys(term for terms in self.terms for term in terms)
        text = "".join(f" {'+' if factor is None or factor > 0 else '-'} {path}" for path, factor in terms)
        return text.removeprefix(" + ") or "a number"

    def value(self, sample: PayloadSample, part: int) -> int | None:
        """Return the value, milliwatt-hours or milliwatts; ``None``: the message does not have it.

        Raises:
            UnreadableError: It is no number, or not a possible one.
        """
        total = Decimal(0)
        for path, factor in self.terms[part]:
            try:
                found = summed(sample.found(path), self._notation)
                if found is None:
                    return None
                value, stated = found
                if not stated and self._unit_path is not None and not (stated := sample.text(self._unit_path) or ""):
                    raise UnreadableError(f"no unit at {self._unit_path}")
                if stated:
                    value = converted(value, stated, self.rule.unit)
            except UnreadableError as error:
                raise UnreadableError(f"{path}: {error}" if path else str(error)) from None
            total += value if factor is None else value * factor
        if self.rule.float32:
            if (real := float_of(total)) is None:
                return None
            total = real
        if self.rule.sign != "both":
            total = max(total if self.rule.sign == "positive" else -total, Decimal(0))
        result = scaled(total, self._factor) if total else 0
        if result < 0 and self.rule.kind != "power":
            raise UnreadableError(f"negative: {total} {self.rule.unit}")
        return result

    def times(self, sample: PayloadSample) -> tuple[EpochMilliseconds, ...]:
        """Return the instants that the message's own time may mean; empty: it has none.

        Raises:
            UnreadableError: It is no time.
        """
        found = None if self._time is None else sample.text(self._time)
        return () if found is None else times_of(found, self._zone)

    def report(self, payload: bytes) -> "Report | None":
        """Return what a message on a restart topic reports; ``None``: nothing of its start."""
        if self._restart_payload.fullmatch(payload):
            return Report(self, None)
        path = self.rule.uptime_path
        if path is None:
            return None
        with suppress(UnreadableError):
            sample = FORMATS["json" if path else "plain"](payload[: MAX_BYTES + 1]).samples[0]
            found = summed(sample.found(path), decimal)
            return None if found is None or found[1] else Report(self, int(found[0]))
        return None

    def restart_mark(self, sample: PayloadSample) -> str | None:
        """Return the value that changes when the register is set back; ``None``: the message does not have it."""
        mark = None if self._restart_path is None else sample.text(self._restart_path)
        if mark is None or mark.isascii():
            return mark and mark[:_LONGEST_MARK]
        # The mark is stored: JSON can have half a surrogate pair, which is no text.
        return mark[:_LONGEST_MARK].encode(errors="backslashreplace").decode()


class Report(NamedTuple):
    """What a device reports of its start."""

    reader: Reader  # the rule
    uptime: int | None  # a number that falls when the device restarts; ``None``: the device has just started


class RuleReading(NamedTuple):
    """What a rule found in a message."""

    reader: Reader  # the rule
    part: int  # which of the rule's topics
    value: int | None = None  # milliwatt-hours or milliwatts; ``None``: there is none
    times: tuple[EpochMilliseconds, ...] = ()  # the instants that the message's own time may mean
    restart_mark: str | None = None  # a value that changes when the register is set back
    fault: str = ""  # why there is no value, for people; empty if there is one
    is_late: bool = False  # whether its source kept it until it could send it
    has_ended: bool = False  # whether the device died, and its level is not known any more


class Readers:
    """All rules of an adapter, by topic."""

    def __init__(self, readers: Iterable[Reader]) -> None:
        self.all = tuple(readers)  # the readers
        # Nodes of Sparkplug by group and name, and for each the device, reader and part of its rules.
        self._nodes: dict[tuple[str, str], tuple[Node, list[tuple[str, Reader, int]]]] = {}
        self._exact: dict[str, list[tuple[Reader, int]]] = defaultdict(list)
        self._wild: list[tuple[tuple[str, ...], Reader, int]] = []
        self._restarts: dict[str, list[Reader]] = defaultdict(list)
        for reader in self.all:
            for part, topic in enumerate(reader.topics):
                if reader.rule.format == "sparkplug":
                    _, group, _, name, device = [*topic.split("/"), ""][:5]
                    node, rules = self._nodes.setdefault((group, name), (Node(), []))
                    node.wanted |= {(device, path) for path, _ in reader.terms[part]}
                    node.asks |= reader.rule.rebirth
                    rules.append((device, reader, part))
                elif "+" in topic or "#" in topic:
                    self._wild.append((tuple(topic.split("/")), reader, part))
                else:
                    self._exact[topic].append((reader, part))
            for topic in reader.restart_topics:
                self._restarts[topic].append(reader)

    @property
    def sources(self) -> list[str]:
        """The names of the sources of their meters."""
        return sorted({reader.source for reader in self.all})

    def of(self, source: str) -> "Readers":
        """Return the rules of a source's meters."""
        return Readers(reader for reader in self.all if reader.source == source)

    @property
    def filters(self) -> list[str]:
        """The topic filters to subscribe to."""
        # Messages of Sparkplug are numbered by node, with all its devices.
        nodes = {f"{NAMESPACE}/{group}/+/{name}/#" for group, name in self._nodes}
        others = {topic for reader in self.all if reader.rule.format != "sparkplug" for topic in reader.topics}
        return sorted(nodes | others | {topic for reader in self.all for topic in reader.restart_topics})

    def reports(self, topic: str, payload: bytes) -> Iterator[Report]:
        """Yield the starts and uptimes that this message reports."""
        for reader in self._restarts.get(topic, ()):
            if (report := reader.report(payload)) is not None:
                yield report

    def knows(self, topic: str) -> bool:
        """Return whether a rule is for this topic."""
        return topic in self._restarts or bool(self._matching(topic)) or self._node_of(topic.split("/")) is not None

    def read(self, topic: str, payload: bytes) -> Iterator[RuleReading]:
        """Yield what each rule for this topic finds in each sample of a message; each format is parsed once."""
        if self._nodes:
            for reader, part, found in self._of_node(topic.split("/"), payload):
                yield from _readings(reader, part, found)
        parsed: dict[str, Found | JsonPayload] = {}
        for reader, part in self._matching(topic):
            name = reader.rule.format
            if name not in parsed:
                parsed[name] = _parsed(name, payload)
            samples = parsed[name]
            if isinstance(samples, JsonPayload):
                yield _reading(reader, part, samples)
            else:
                yield from _readings(reader, part, samples)

    def requests(self, now: EpochMilliseconds) -> Iterator[tuple[str, bytes]]:
        """Yield topic and payload of each request for births of Sparkplug that is due."""
        for (group, name), (node, _) in self._nodes.items():
            if (payload := node.request(now)) is not None:
                yield f"{NAMESPACE}/{group}/NCMD/{name}", payload

    def _node_of(self, levels: list[str]) -> tuple[Node, list[tuple[str, Reader, int]]] | None:
        is_read = 4 <= len(levels) <= 5 and levels[0] == NAMESPACE and levels[2] in KINDS
        return self._nodes.get((levels[1], levels[3])) if is_read else None

    def _of_node(self, levels: list[str], payload: bytes) -> Iterator[tuple[Reader, int, Found]]:
        """Yield what a message of Sparkplug has for each rule."""
        if (place := self._node_of(levels)) is None:
            return
        (node, rules), device = place, "/".join(levels[4:])
        try:
            found: Found = node.take(levels[2], device, payload)
        except UnreadableError as error:
            found = error
        for own, reader, part in rules:
            if own == device or (found is None and levels[2] == "NDEATH"):
                yield reader, part, found

    def _matching(self, topic: str) -> list[tuple[Reader, int]]:
        found = self._exact.get(topic, [])
        if not self._wild:
            return found
        levels = topic.split("/")
        return found + [(reader, part) for pattern, reader, part in self._wild if _matches(pattern, levels)]


def _matches(pattern: tuple[str, ...], levels: list[str]) -> bool:
    if pattern[-1] == "#":
        pattern, levels = pattern[:-1], levels[: len(pattern) - 1]
    return len(pattern) == len(levels) and all(one in ("+", level) for one, level in zip(pattern, levels, strict=True))


def _parsed(name: str, payload: bytes) -> Found | JsonPayload:
    if len(payload) > MAX_BYTES:
        return UnreadableError(f"{len(payload)} bytes, more than {MAX_BYTES}")
    try:
        found = FORMATS[name](payload)
        return found if isinstance(found, JsonPayload) else found.samples
    except UnreadableError as error:
        return error


def _any_of(texts: Iterable[str]) -> re.Pattern[bytes]:
    """Return the pattern of payloads; ``*`` is any text."""
    return re.compile(b"|".join(re.escape(text.encode()).replace(rb"\*", b".*") for text in texts), re.DOTALL)


def without_dots(topic: str) -> str:
    """Return a topic without ``..``, which is the level above."""
    levels: list[str] = []
    for level in topic.split("/"):
        if level == ".." and levels:
            levels.pop()
        else:
            levels.append(level)
    return "/".join(levels)


def _readings(reader: Reader, part: int, samples: Found) -> list[RuleReading]:
    """Return what a rule finds in the samples of a message."""
    if samples is None or isinstance(samples, UnreadableError):
        return [RuleReading(reader, part, fault=str(samples or ""), has_ended=samples is None)]
    every = [_reading(reader, part, sample) for sample in samples]
    return [one for one in every if one.value is not None or one.fault] or [RuleReading(reader, part)]


def _reading(reader: Reader, part: int, sample: PayloadSample) -> RuleReading:
    try:
        value = reader.value(sample, part)
        if value is None:
            return RuleReading(reader, part)
        times, mark = reader.times(sample), reader.restart_mark(sample)
        return RuleReading(reader, part, value, times, mark, "", sample.is_late)
    except UnreadableError as error:
        return RuleReading(reader, part, fault=str(error))


def readers_of(settings: AdapterSettings) -> Readers:
    """Compile the rules of every meter.

    Raises:
        SettingError: A meter's preset is unknown, has no rule for the meter's direction, or mixes kinds.
    """
    presets = presets_of(settings)
    return Readers(
        reader
        for n, meter in enumerate(settings.meter)
        for device in meter.devices
        for reader in _of_device(settings, n, device, presets[device.preset])
    )


def _of_device(
    settings: AdapterSettings, n: int, meter: AdapterMeter, rules: tuple[AdapterRule, ...]
) -> Iterator[Reader]:
    """Compile the rules of one device of the meter at ``n``, as its ``counts`` says."""
    direction = meter.reads or meter.direction
    wanted = [rule for rule in rules if rule.direction in (None, direction)]
    if meter.capacity_wh is None or meter.counts not in ("all", "level"):
        # Without a battery there is no level, and a percentage means nothing.
        wanted = [rule for rule in wanted if rule.kind != "level"]
    if meter.counts in ("level", "register"):
        wanted = [rule for rule in wanted if rule.kind == meter.counts]
    if meter.counts == "generation":
        wanted = [rule.model_copy(update={"type": "generation"}) for rule in wanted]
    if not wanted:
        what = "" if meter.counts == "all" else f" that counts as {meter.counts}"
        why = f"preset {meter.preset} has no rule for direction {direction}{what}"
        raise SettingError(("meter", n, "direction"), f"[[meter]] {meter.id}: {why}")
    if not meter.source and any("{device}" in topic for rule in wanted for topic in rule.topic):
        why = f"preset {meter.preset} needs source, the device's name in its topics"
        raise SettingError(("meter", n, "source"), f"[[meter]] {meter.id}: {why}")
    ranks: dict[str, int] = defaultdict(int)
    kinds: dict[str, str] = {}
    for rule in wanted:
        name = rule.record_type
        if kinds.setdefault(name, rule.kind) != rule.kind:
            why = f"reads {name} as {kinds[name]} and as {rule.kind}; rules of one record type have one kind"
            raise SettingError(("meter", n, "preset"), f"[[meter]] {meter.id}: preset {meter.preset} {why}")
        reader = _compile(settings, meter, rule, ranks[name])
        for topic in (*reader.topics, *reader.restart_topics):
            try:
                check_topic(topic)
                if rule.format == "sparkplug" and topic in reader.topics:
                    check_node(topic)
            except ValueError as error:
                why = f"with this source and channel a topic is {topic!r}: {error}"
                raise SettingError(("meter", n, "source"), f"[[meter]] {meter.id}: {why}") from None
        yield reader
        ranks[name] += 1


def _compile(settings: AdapterSettings, meter: AdapterMeter, rule: AdapterRule, rank: int) -> Reader:
    def filled(text: str) -> str:
        return text.replace("{device}", meter.source).replace("{channel}", meter.channel)

    capacity: MilliwattHours = (meter.capacity_wh or 0) * 1000
    factor, record_type = PER_UNIT[rule.unit] * Fraction(rule.scale), RecordType[rule.record_type.upper()]
    rated_mw = 1000 * min(meter.rated_w, rule.rated_w or meter.rated_w)
    gap_s = min(meter.longest_gap_s, POWER_GAP_S) if rule.kind == "power" else meter.longest_gap_s
    return Reader(
        meter=meter.id,
        source=settings.source_of(meter),
        rule=rule,
        rank=rank,
        record_type=record_type,
        topics=tuple(filled(topic) for topic in rule.topic),
        restart_topics=tuple(without_dots(filled(topic)) for topic in rule.restart_topic),
        channel=ChannelRule(
            kind=rule.kind,
            record_type=record_type,
            limits=CounterLimits(
                rated_mw=rated_mw,
                resolution=rule.resolution_mwh,
                rollover=rule.rollover_mwh,
                restarts_at_zero=rule.restarts_at_zero,
            ),
            longest_gap_ms=1000 * gap_s,
            # A capacity is nominal: a full battery may report more.
            highest=capacity * MARGIN_PERCENT // 100 if rule.kind == "level" else rated_mw,
        ),
        exchanged=None if meter.exchanged is None else int(meter.exchanged.timestamp() * 1000),
        lowest=rule.factors.index(min(rule.factors)) if rule.factors and len(rule.topic) > 1 else None,
        terms=_terms(rule, filled),
        _notation=NOTATIONS[rule.number],
        _unit_path=None if rule.unit_path is None else filled(rule.unit_path),
        _factor=factor * capacity if rule.unit == "%" else factor,
        _zone=ZoneInfo(rule.zone or settings.zone),
        _time="time" if rule.format == "sparkplug" else None if rule.time is None else filled(rule.time),
        _restart_path=None if rule.restart_path is None else filled(rule.restart_path),
        _restart_payload=_any_of([filled(text) for text in rule.restart_payload]),
    )


def _terms(rule: AdapterRule, filled: Callable[[str], str]) -> tuple[tuple[tuple[str, Decimal | None], ...], ...]:
    """Return for each topic the paths to add up, each with its factor."""
    paths = [filled(path) for path in rule.path or ("",)]
    if len(rule.topic) > len(paths):
        paths = paths * len(rule.topic)
    terms = tuple(zip(paths, rule.factors or (None,) * len(paths), strict=True))
    if len(rule.topic) > 1:
        return tuple((term,) for term in terms)
    return ((*terms, *((filled(path), Decimal(-1)) for path in rule.less)),)
