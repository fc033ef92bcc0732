"""A discovered device as a card: what it is for, its live numbers, and what it may be told on which topic."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from adapters.commands import DeviceWish, commands_of
from adapters.discovery.announced import (
    VOCABULARY,
    DiscoveredQuantity,
    Entity,
    RefusedError,
    command_of,
    place_of,
    quantity_of,
    rule_of,
    words_in,
)
from adapters.mapping.payloads import FORMATS
from adapters.mapping.readers import Preset, Reader, Readers, known_presets, readers_of, without_dots
from adapters.mapping.values import UnreadableError
from adapters.messages import Arrived
from commonwatt.config.adapter import AdapterCommand, AdapterMeter, AdapterRule, AdapterSettings
from commonwatt.model.exceptions import SettingError
from commonwatt.model.text import printable

WAYS = ("incoming", "outgoing")  # the directions; the meters that read a device have their places from 1 on
LONGEST_TEXT = 80  # most characters of a text for people
MOST_WATTS, MOST_PERCENT = 1e9, 200.0  # numbers beyond are none: no device is so

_LIVE = len(WAYS) + 1  # the meter that reads the power of a device whose registers count
_CAPACITY_WH = 1_000  # of a battery whose capacity is not known: its level is read in percent
_WINDOW_MS = 60_000  # about how long a register's rise is watched for its power
_LEAST_MS = 5_000  # shortest time of a rise that gives a power
_SLOW_MS = 60_000  # from how many milliseconds between two messages on a person is told

_ELSEWHERE = "What it may be told has a topic outside its own folder, so it is not offered."
_SEVERAL = "It has several switches or inverters: which one is told must be written by hand."


class Timed(NamedTuple):
    """A value with its time."""

    at: int  # milliseconds
    value: int  # milliwatt-hours or milliwatts


@dataclass(slots=True)
class Track:
    """A value now and about a minute before."""

    before: Timed
    last: Timed
    period_ms: int = 0  # between the last two messages

    def take(self, new: Timed) -> None:
        """Take a new value."""
        if new.value < self.last.value:
            self.before = new
        elif new.at - self.before.at > _WINDOW_MS and self.last.at - self.before.at >= _LEAST_MS:
            self.before = self.last
        self.period_ms, self.last = new.at - self.last.at, new

    @property
    def watts(self) -> float | None:
        """The power by which a register rises; ``None``: it is not known yet."""
        ms, energy = self.last.at - self.before.at, self.last.value - self.before.value
        return None if ms < _LEAST_MS or (not energy and ms < _WINDOW_MS) else energy * 3600 / ms


@dataclass(eq=False)
class Device:
    """A device, or a channel of it, with the rules that read it."""

    preset: Preset
    at: str  # the name of its source
    source: str
    channel: str
    readers: Readers
    values: dict[tuple[Reader, int], Track] = field(default_factory=dict)  # by rule and its topic
    topics: set[str] = field(default_factory=set)  # topics from which values were read
    is_fresh: bool = False  # whether a value came that its broker had not kept
    shown: set[str] = field(default_factory=set)  # kinds of the commands whose confirmation its messages have

    def take(self, message: Arrived) -> bool:
        """Read a message; return whether there was a value."""
        found = [one for one in self.readers.read(message.topic, message.payload) if one.value is not None]
        for one in found:
            new = Timed(message.at, one.value or 0)
            self.values.setdefault((one.reader, one.part), Track(new, new)).take(new)
            self.topics.add(message.topic)
            self.is_fresh |= not message.retained
        for command in self.preset.commands:
            path = "" if command.confirm is None else command.confirm.path.replace("{channel}", self.channel)
            if path and command.kind not in self.shown and _has(message.payload, path):
                self.shown.add(command.kind)
        return bool(found)

    @property
    def rules(self) -> list[AdapterRule]:
        """Its rules but for the one of the power that is only shown."""
        return [one for one in self.preset.rules if one.preset == self.preset.name]

    def best(self, kind: str, meter: int) -> list[Track]:
        """Return the values of the first rule of a meter that has all of a kind; empty: none has."""
        ours = (one for one in self.readers.all if one.meter == meter and one.rule.kind == kind)
        for reader in sorted(ours, key=lambda one: one.rank):
            tracks = [self.values[reader, part] for part in range(len(reader.topics)) if (reader, part) in self.values]
            if len(tracks) == len(reader.topics):
                return tracks
        return []


def device_of(settings: AdapterSettings, preset: Preset, at: str, source: str, channel: str = "0") -> Device | None:
    """Return what reads a device; ``None``: its name can't be one."""
    table = {"source": source, "channel": channel, "at": at, "capacity_wh": _CAPACITY_WH}
    directions = {one.direction for one in preset.rules if one.preset == preset.name}
    named = [(n, preset.name, way) for n, way in enumerate(WAYS, 1) if directions & {None, way}]
    named += [(_LIVE, one.preset, "incoming") for one in preset.rules if one.preset != preset.name]
    with suppress(ValueError, SettingError):
        meters = [{**table, "id": n, "preset": name, "direction": way} for n, name, way in named]
        return Device(preset, at, source, channel, readers_of(_alone(settings, preset, *meters)))
    return None


def _alone(settings: AdapterSettings, preset: Preset, *meters: Mapping[str, object]) -> AdapterSettings:
    """Return the adapter's settings with some meters of a preset alone.

    Raises:
        ValueError: A name or channel of theirs can't be one.
    """
    names = [str(table[key]) for table in meters for key in ("source", "channel")]
    if any(set(name) & set("{}*") or {"", ".", ".."} & set(name.split("/")) for name in names):
        raise ValueError("leads elsewhere")
    own, is_known = tuple(map(AdapterMeter.model_validate, meters)), preset.name in known_presets()
    rules, commands = ((), ()) if is_known else (preset.rules, preset.commands)
    return settings.model_copy(update={"meter": own, "rule": rules, "command": commands})


def announced_preset(entities: Sequence[Entity]) -> Preset | None:
    """Return a preset of what is announced of a device; ``None``: no energy."""
    quantities, begins_again = list[DiscoveredQuantity](), False
    for entity in entities:
        try:
            quantities += [] if (found := quantity_of(entity)) is None else [found]
        except RefusedError:
            begins_again |= entity.texts["unit_of_measurement"] in VOCABULARY["units"]["register"]
    powers = [one for one in quantities if one.kind == "power"]
    counted = [one for one in quantities if one.kind == "register"] or powers
    if not counted:
        return None
    first, title = entities[0], entities[0].device_name
    digest = hashlib.sha256(first.device.encode(errors="replace")).hexdigest()[:6]
    name = f"{re.sub('[^a-z0-9]+', '-', title.lower()).strip('-')[:20].strip('-') or 'own'}-{digest}"
    by_way: dict[str, DiscoveredQuantity] = {}
    # Of several alike one may contain the others.
    for one in sorted(counted, key=lambda one: "total" not in words_in(one.entity.texts["name"])):
        by_way.setdefault(one.direction, one)
    if counted is powers and "" in by_way:
        table = rule_of(by_way[""], name)
        tables = [table | {"direction": "incoming"}, table | {"direction": "outgoing", "sign": "negative"}]
    else:
        tables = [rule_of(one, name) | ({"direction": way} if way else {}) for way, one in by_way.items()]
    tables += [rule_of(one, name) for one in quantities if one.kind == "level"][:1]
    tables += [rule_of(one, f"{name}-live") | {"sign": "both"} for one in powers[:1]]
    command, why = _announced_command(entities, name)
    notes = (
        "Its total begins again, so its power counts." if begins_again and counted is powers else "",
        why,
        "It has several counters alike: the first one is read." if len(counted) > len(by_way) else "",
    )
    with suppress(ValueError):
        return Preset(
            name=name,
            title=title,
            source=re.sub(r"[^\w:. -]", "-", first.device, flags=re.ASCII)[:LONGEST_TEXT],
            sources=(),
            notes=next(filter(None, notes), ""),
            rules=tuple(map(AdapterRule.model_validate, tables)),
            commands=tuple(map(AdapterCommand.model_validate, command)),
            found={},
        )
    return None


def _announced_command(entities: Sequence[Entity], preset: str) -> tuple[list[dict[str, Any]], str]:
    """Return the command of a device's one switch, if it is in the device's own folder; and why there is none."""
    own, is_outside = list[dict[str, Any]](), False
    for entity in (one for one in entities if one.component == "switch"):
        with suppress(RefusedError):
            if (command := command_of(entity)) is not None:
                is_own = entity.folder and command[2]["topic"].startswith(f"{entity.folder}/")
                own += [{"preset": preset} | command[2]] if is_own else []
                is_outside |= not is_own
    if len(own) == 1 and "confirm" in own[0]:
        return own, ""
    return [], _SEVERAL if len(own) > 1 else _ELSEWHERE if is_outside and not own else ""


def contradicts(device: Device, entities: Sequence[Entity]) -> bool:
    """Return whether an announcement says another unit of a value than the preset's rule."""
    units = {place: reader.rule.unit for reader, _ in device.values for place in reader.places}
    for entity in entities:
        path, scale = place_of(entity.texts["value_template"]) or ("", 1)
        unit = units.get((entity.texts["state_topic"], path))
        if unit is not None and (entity.texts["unit_of_measurement"] != unit or scale != 1):
            return True
    return False


def card_of(
    device: Device,
    settings: AdapterSettings,
    now: int,
    topics: Mapping[str, bytes],
    entities: Sequence[Entity],
    live: Device | None,
) -> dict[str, Any]:
    """Return a device's card.

    Args:
        now: The time, milliseconds.
        topics: The topics of its source, each with its last message.
        entities: What is announced of it.
        live: What reads the announced values, beside a preset or alone.
    """
    preset, rules, is_announced = device.preset, device.rules, live is device
    places = [text for one in rules for text in (*one.topic, *one.path)] if is_announced else [device.source]
    words = words_in(device.channel, *(one.device_name for one in entities[:1]), *places)
    generates = any(one.type == "generation" for one in rules)
    gives = words.intersection(VOCABULARY["directions"]["outgoing"]) and not generates
    ways = {one.direction or ("outgoing" if gives else "incoming") for one in rules if one.kind != "level"}
    best: dict[str, dict[str, list[Track]]] = {
        kind: {way: found for n, way in enumerate(WAYS, 1) if way in ways and (found := device.best(kind, n))}
        for kind in ("register", "power")
    }
    registers, powers = best["register"], best["power"]
    counted, level = registers or powers, device.best("level", 1) or device.best("level", 2)
    is_power = not any(one.kind == "register" for one in rules)
    is_one_way = is_announced and is_power and not any(one.last.value for one in powers.get("outgoing", ()))
    # A power without a direction that was never below zero is incoming.
    counts: set[str] = {"incoming"} if is_one_way else {*ways} if is_announced and not counted else {*counted}
    types = ["generation"] if generates else ["through"] if is_power else ["register", "through"]
    channel, told, why = _told(device, settings, topics)
    role = preset.found.get("role") or _role(words, counts, bool(level), generates, told["reduce"] is not None)
    power = [] if live is None else live.best("power", _LIVE)
    watts = power[0].last.value / 1000 if power else _net_watts(registers, powers)
    watts = None if watts is None or abs(watts) > MOST_WATTS else round(abs(watts) if role == "sun" else watts, 1)
    total = registers.get("incoming") or registers.get("outgoing")
    at = max((one.last.at for one in device.values.values()), default=None)
    period_ms = min((one.period_ms for tracks in counted.values() for one in tracks), default=0)
    notes = {
        preset.notes: is_announced,
        "Its total begins again each day or so: what flows at that moment does not count.": not is_announced
        and words.intersection(VOCABULARY["periods"]),
        why: True,
        "It is announced, and nothing of it was heard yet.": at is None,
        "Only a message that its broker had kept was seen: it may be old.": not device.is_fresh,
        "It says its level, and no energy yet.": level and not counted,
        f"Its last messages were {period_ms // 1000} s apart: shorter times are averages.": period_ms >= _SLOW_MS,
    }
    name = device.source if is_announced or not entities else entities[0].device_name
    is_percent = any(one.kind == "level" and one.unit == "%" for one in rules)
    percent = level[0].last.value / (_CAPACITY_WH * 10) if level and is_percent else None
    meter = {"preset": preset.name, "source": device.source, "channel": channel}
    return {
        "key": " ".join(meter.values()),
        "title": _cut(preset.found.get("title") or preset.title),
        "name": _cut(name if device.channel == "0" else f"{name} {device.channel}"),
        "role": role,
        "power_w": watts,
        "level_percent": None if percent is None or percent > MOST_PERCENT else percent,
        "total_kwh": sum(one.last.value for one in total) / 1e6 if total else None,
        "age_s": None if at is None else max(0, now - at) // 1000,
        **{way: types if way in counts else [] for way in WAYS},
        "meter": meter | ({} if device.at == settings.source[0].name else {"at": device.at}),
        "rules": _tables(rules) if is_announced else [],
        "commands": _tables(preset.commands) if is_announced else [],
        **told,
        "note": next((note for note, holds in notes.items() if note and holds), ""),
    }


def _role(words: set[str], counted: set[str], has_level: bool, generates: bool, reduces: bool) -> str:
    both = len(counted) == len(WAYS)
    is_for = {role: bool(words.intersection(known)) for role, known in VOCABULARY["roles"].items()}
    fits = {
        "battery": has_level or is_for["battery"],
        "grid": both and is_for["grid"],
        "sun": generates or is_for["sun"],
        "load": reduces or is_for["load"],
    }
    return next((role for role, does in fits.items() if does), "grid" if both or is_for["grid"] else "unknown")


def _net_watts(registers: Mapping[str, list[Track]], powers: Mapping[str, list[Track]]) -> float | None:
    """Return the power that comes in less the power that goes out; ``None``: it is not known yet."""
    found = [(way, one.last.value / 1000) for way, tracks in powers.items() for one in tracks]
    found = found or [(way, one.watts) for way, tracks in registers.items() for one in tracks if one.watts is not None]
    return sum(watts if way == "incoming" else -watts for way, watts in found) if found else None


def _told(
    device: Device, settings: AdapterSettings, topics: Mapping[str, bytes]
) -> tuple[str, dict[str, dict[str, Any] | None], str]:
    """Return the channel of the device's meter, what it may be told, by kind, and why something is not offered."""
    preset, channel = device.preset, device.channel
    told = dict[str, dict[str, Any] | None](share=None, reduce=None)
    commands = [one for one in preset.commands if one.kind in told]
    by_rules = any("{channel}" in text for rule in preset.rules for text in (*rule.topic, *rule.path))
    needed = [one for one in commands if "{channel}" in f"{one.topic}{one.on}" and not by_rules]
    if needed:
        shown = "" if needed[0].confirm is None else needed[0].confirm.topic
        if "{device}" not in shown:
            return channel, told, _ELSEWHERE
        # Up to the level of the channel, which stays as it is.
        begin = without_dots(shown.partition("{channel}")[0].replace("{device}", device.source) + ".").removesuffix(".")
        channels = {topic.removeprefix(begin).partition("/")[0] for topic in topics if topic.startswith(begin)}
        if len(channels) != 1:
            return channel, told, _SEVERAL if channels else ""
        (channel,) = channels
    table = {"id": 1, "preset": preset.name, "source": device.source, "channel": channel, "at": device.at}
    table |= {"capacity_wh": _CAPACITY_WH, "watts": 1}
    try:
        for command in commands:
            (one,) = commands_of(_alone(settings, preset, table | {"obeys": command.kind}))
            if command.kind in device.shown or _may_show(one.shown_on, command, topics):
                topic = one.message(DeviceWish(), 0, None).topic
                told[command.kind] = {"topic": topic, "ends": command.failsafe, "ends_s": command.ends_within_s}
    except (ValueError, SettingError):
        return device.channel, told, _ELSEWHERE
    return channel, told, ""


def _may_show(topic: str | None, command: AdapterCommand, topics: Mapping[str, bytes]) -> bool:
    """Return whether nothing that was heard speaks against the topic on which a device shows that it obeys."""
    if topic is None or command.confirm is None:
        return True
    if topic in topics:
        return not command.confirm.path or _has(topics[topic], command.confirm.path)
    # A preset knows what else its device shows there.
    folder = topic.rpartition("/")[0] + "/"
    return command.preset not in known_presets() or not any(one.startswith(folder) for one in topics)


def _has(payload: bytes, path: str) -> bool:
    with suppress(UnreadableError):
        return payload[:1] == b"{" and FORMATS["json"](payload).samples[0].found(path) is not None
    return False


def _tables(settings: Sequence[AdapterRule | AdapterCommand]) -> list[dict[str, Any]]:
    return [one.model_dump(mode="json", exclude_defaults=True) for one in settings]


def _cut(text: str) -> str:
    return printable(text)[:LONGEST_TEXT]
