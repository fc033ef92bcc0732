"""What devices publish, as cards to choose from: messages in, a bounded answer out.

A preset is found by the topics of its rules, and counts once one of them reads a value. What is announced to Home
Assistant becomes a card if no preset reads it. Every text is foreign: it is cut and printable.
"""

import re
from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

from adapters.discovery.announced import Entity, announced_in, form_of, numbers_in
from adapters.discovery.cards import Device, announced_preset, card_of, contradicts, device_of
from adapters.mapping.payloads import FORMATS, MAX_BYTES, Payload
from adapters.mapping.readers import Preset, known_presets, replaced_by
from adapters.mapping.values import UnreadableError
from adapters.messages import Arrived, RecordedMessage
from commonwatt.config.adapter import AdapterRule, AdapterSettings

MOST_CARDS = 200  # most devices in an answer, by presets and announced ones alike
MOST_UNKNOWN = 50  # most numbers in an answer that nothing reads
MOST_BYTES = 4 * 1024 * 1024  # most bytes of announcements, whose first stay, and of other messages, whose oldest go
MOST_KEPT_BYTES = 4_096  # longest payload that is kept
MOST_NUMBERS = 50  # most numbers of one topic that are watched
MOST_LEFT_OUT = 1_000  # up to which what is left out is counted
LONGEST_TOPIC = 256  # most characters of a topic that is used
LONGEST_PATH = 200  # most characters of a number's path

_TOPIC_BYTES, _NUMBER_BYTES, _ENTITY_BYTES = 500, 400, 2_000  # what each weighs in memory, about
_CLOCKS = (Decimal(1), Decimal(1000))  # a number that rises so much a second, or is the time now, is a clock

Place = tuple[str, str]  # the name of a source, and a topic


@dataclass(slots=True)
class _Kept:
    """The last message of a topic, and the numbers that never fell in its messages."""

    first_at: int
    last: Arrived  # without a long payload
    numbers: dict[str, tuple[Decimal, Decimal] | None] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return _TOPIC_BYTES + len(self.last.payload) + _NUMBER_BYTES * len(self.numbers)


class _Template(NamedTuple):
    """One topic of a rule of a preset."""

    preset: Preset
    form: str  # the format of its messages
    topic: re.Pattern[str]
    path: str
    in_path: re.Pattern[str] | None  # finds the channel in paths; ``None``: the topic has it, or there is none


class Discovered:
    """The devices of an adapter's sources, as far as they were heard."""

    def __init__(self, settings: AdapterSettings) -> None:
        self._settings = settings
        replaced = replaced_by(settings)
        presets = [one for one in known_presets().values() if one.name not in replaced]
        self._templates = [one for preset in presets for rule in preset.rules for one in _templates(preset, rule)]
        self._devices: dict[tuple[str, str, str, str], Device] = {}
        self._readers: dict[Place, list[Device]] = {}
        self._kept: OrderedDict[Place, _Kept] = OrderedDict()
        self._announced: dict[Place, tuple[int, list[Entity]]] = {}  # of each topic what it weighs, and its entities
        # What was announced of each device, by source and device, and what reads it.
        self._known: dict[tuple[str, str], tuple[list[Entity], Device | None]] = {}
        self._is_stale = False  # whether an announcement came since
        self._bytes = 0  # of what is kept, about
        self._left_out: set[int] = set()

    def take(self, message: Arrived) -> None:
        """Take a message of a source."""
        place, topic, payload = (message.source, message.topic), message.topic, message.payload.strip()
        if len(topic) > LONGEST_TOPIC or not topic.isprintable() or len(payload) > MAX_BYTES:
            self._leave_out(place)
        elif topic.startswith("homeassistant/") and topic.endswith("/config"):
            self._announce(place, payload)
        else:
            message = message._replace(payload=payload)
            for device in self._readers.get(place, ()):
                device.take(message)
            form = form_of(payload)
            with suppress(UnreadableError):
                content = FORMATS[form](payload)
                for template in self._templates:
                    if template.form == form and (match := template.topic.fullmatch(topic)) is not None:
                        for channel in _channels(template, match, content):
                            self._find(template.preset, message, match["device"], channel)
            self._keep(place, message)

    def _find(self, preset: Preset, message: Arrived, name: str, channel: str) -> None:
        """Let a device read a topic, also one that is new, if it reads a value there."""
        key, place = (message.source, preset.name, name, channel), (message.source, message.topic)
        known = self._devices.get(key)
        if known is None and len(self._devices) >= MOST_CARDS:
            self._leave_out(key)
        elif known is None or known not in self._readers.get(place, ()):
            device = known or device_of(self._settings, preset, message.source, name, channel)
            if device is not None and device.take(message):
                self._devices[key] = device
                self._readers.setdefault(place, []).append(device)

    def _keep(self, place: Place, message: Arrived) -> None:
        kept = self._kept.pop(place, None)
        self._bytes -= 0 if kept is None else kept.size
        kept = kept or _Kept(message.at, message)
        kept.last = message if len(message.payload) <= MOST_KEPT_BYTES else message._replace(payload=b"")
        for path, value in numbers_in(kept.last.payload):
            is_new = len(kept.numbers) < MOST_NUMBERS and len(path) <= LONGEST_PATH and path.isprintable()
            if path in kept.numbers or is_new:
                first, last = kept.numbers.get(path, (value, value)) or (value, Decimal("Infinity"))
                kept.numbers[path] = (first, value) if value >= max(last, Decimal(0)) else None
        self._kept[place] = kept
        self._bytes += kept.size
        while self._bytes > MOST_BYTES:
            # What a device reads stays, so that a flood of others puts out none.
            oldest = next((one for one in self._kept if one not in self._readers), None)
            self._bytes -= self._kept.pop(oldest or next(iter(self._kept))).size

    def _announce(self, place: Place, payload: bytes) -> None:
        before = self._announced.pop(place, (0, []))
        entities, _ = announced_in([RecordedMessage(0, place[1], payload)])
        new = max(len(payload), _ENTITY_BYTES * len(entities)), entities
        if sum(size for size, _ in self._announced.values()) + new[0] > MOST_BYTES:
            self._leave_out(place)
            new = before
        self._announced |= {place: new} if new[1] else {}
        self._is_stale |= new != before

    def _leave_out(self, what: tuple[str, ...]) -> None:
        if len(self._left_out) < MOST_LEFT_OUT:
            self._left_out.add(hash(what))

    def answer(self, now: int) -> dict[str, Any]:
        """Return the cards, the numbers that nothing reads, and how many are left out."""
        if self._is_stale:
            self._read_announcements()
        cards, read, topics = list[dict[str, Any]](), set[Place](), defaultdict[str, dict[str, bytes]](dict)
        for (source, topic), kept in self._kept.items():
            topics[source][topic] = kept.last.payload
        by_place = {
            (source, entity.texts["state_topic"]): (entities, device)
            for (source, _), (entities, device) in self._known.items()
            for entity in entities
        }
        for device in self._devices.values():
            places = {(device.at, topic) for topic in device.topics}
            entities, live = next((by_place[one] for one in sorted(places) if one in by_place), ([], None))
            if not contradicts(device, entities):
                read |= places
                cards.append(card_of(device, self._settings, now, topics[device.at], entities, live))
        for (source, _), (entities, announced) in self._known.items():
            places = {(source, entity.texts["state_topic"]) for entity in entities}
            if announced is not None and not places & read:
                cards.append(card_of(announced, self._settings, now, topics[source], entities, announced))
            read |= places
        left_out = len(self._left_out) + max(0, len(cards) - MOST_CARDS)
        cards = sorted(cards[:MOST_CARDS], key=lambda card: (card["title"], card["name"], card["key"]))
        unknown = sorted(self._unknown(read), key=lambda one: str(one["key"]))[:MOST_UNKNOWN]
        return {"cards": cards, "unknown": unknown, "left_out": left_out}

    def _read_announcements(self) -> None:
        """Make what reads announced devices; a device whose announcements are the same keeps its values."""
        self._is_stale, before, by_device = False, self._known, defaultdict[tuple[str, str], list[Entity]](list)
        for (source, _), (_, announced) in sorted(self._announced.items()):
            for entity in announced:
                by_device[source, entity.device].append(entity)
        self._known = {}
        for key, entities in by_device.items():
            if key in before and before[key][0] == entities:
                self._known[key] = before.pop(key)
            elif len(self._known) >= MOST_CARDS:
                self._leave_out(key)
            else:
                self._known[key] = entities, self._announced_device(key[0], entities)
        gone = {id(device) for _, device in before.values()}
        left = {place: [one for one in devices if id(one) not in gone] for place, devices in self._readers.items()}
        self._readers = {place: devices for place, devices in left.items() if devices}

    def _announced_device(self, source: str, entities: list[Entity]) -> Device | None:
        preset = announced_preset(entities)
        device = None if preset is None else device_of(self._settings, preset, source, preset.source)
        if device is not None:
            for place in {(source, topic) for reader in device.readers.all for topic in reader.topics}:
                self._readers.setdefault(place, []).append(device)
                if place in self._kept:
                    device.take(self._kept[place].last)
        return device

    def _unknown(self, read: set[Place]) -> Iterator[dict[str, object]]:
        placed = {device.source for meter in self._settings.meter for device in meter.devices}
        for (source, topic), kept in self._kept.items():
            seconds = (kept.last.at - kept.first_at) // 1000
            for path, values in kept.numbers.items() if (source, topic) not in read and seconds > 0 else ():
                if values is None:
                    continue
                per_second = (values[1] - values[0]) / seconds
                near = (per_second, Decimal("0.2")), (values[1] * 1000 / kept.last.at, Decimal("0.001"))
                is_clock = any(abs(one / clock - 1) < within for clock in _CLOCKS for one, within in near)
                if topic not in placed and (is_clock or not per_second):
                    continue
                first, last = map(str, values)
                key, at = f"{topic} {path}", {} if source == self._settings.source[0].name else {"at": source}
                yield {"key": key, "topic": topic, "path": path, "first": first, "last": last, "seconds": seconds} | at


def _templates(preset: Preset, rule: AdapterRule) -> Iterator[_Template]:
    """Yield the topics of a rule by which devices are found."""
    device, channel = preset.found.get("device", ".+"), preset.found.get("channel", "[^/]+")

    def pattern(text: str) -> re.Pattern[str]:
        named = {"{device}": f"(?P<device>{device})", "{channel}": f"(?P<channel>{channel})"}
        return re.compile("".join(named.get(part) or re.escape(part) for part in re.split(r"(\{\w+\})", text)))

    for topic in rule.topic if device else ():
        path = rule.path[0] if rule.path else ""
        yield _Template(preset, rule.format, pattern(topic), path, pattern(path) if "{channel}" in path else None)


def _channels(template: _Template, match: re.Match[str], content: Payload) -> Iterator[str]:
    """Yield the channels of which a message may have the value; ``0``: the device has no channels."""
    if template.in_path is not None:
        found = (template.in_path.fullmatch(path) for path, _ in content.texts())
        yield from dict.fromkeys(one["channel"] for one in found if one is not None)
    elif any(sample.found(template.path) is not None for sample in content.samples):
        yield match.groupdict().get("channel") or "0"
