"""Home Assistant's discovery: entities by ``COMPONENT/[NODE/]OBJECT``, since 2024.11 devices by ``device/ID``."""

import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, NamedTuple

from adapters.mapping.payloads import MAX_BYTES
from adapters.mapping.values import UnreadableError, json_of
from adapters.recordings import Recorded

FILTERS = ("homeassistant/+/+/config", "homeassistant/+/+/+/config")
MAX_ENTITIES, MAX_FAULTS = 5_000, 100  # most entities that are kept, and most messages that are named
LONGEST = 256  # most characters of a text that is used

# What the words of the discovery mean here.
VOCABULARY: dict[str, Any] = tomllib.loads(Path(__file__).with_name("vocabulary.toml").read_text(encoding="utf-8"))


class Entity(NamedTuple):
    """A sensor, or a switch, select or number that takes commands."""

    component: str  # ``sensor``, ``switch``, ``select`` or ``number``
    device: str  # the device's first identifier, else a part of the topic
    device_name: str  # the device's name
    texts: Mapping[str, str]  # its keys by their long names; a missing one is empty

    @property
    def title(self) -> str:
        """The device and the entity, for people."""
        return f"{self.device_name}: {self.texts['name']}"

    @property
    def folder(self) -> str:
        """The innermost folder of the state topic that has the device's name or identifier; empty: none has."""
        names = {self.device.lower(), self.device_name.lower()}
        folders = [*accumulate(self.texts["state_topic"].split("/"), "{}/{}".format)]
        return next((each for each in reversed(folders) if each.rpartition("/")[2].lower() in names), "")

    @property
    def online(self) -> tuple[str, str] | None:
        """Topic and payload that report the device itself as online, in its own folder; else ``None``."""
        topic, payload = self.texts["availability_topic"], self.texts["payload_available"] or "online"
        own = self.folder and topic.rpartition("/")[0] == self.folder and (topic + payload).isprintable()
        other = self.texts["availability_template"] or self.texts["via_device"] or set(topic + payload) & set("+#{}*")
        return (topic, payload) if own and not other else None


def announced_in(messages: Iterable[Recorded]) -> tuple[list[Entity], Counter[str]]:
    """Return the entities that are announced last on each topic, and what can't be used: topic and reason, counted."""
    by_topic, faults, count = dict[str, tuple[Entity, ...]](), Counter[str](), 0
    for message in messages:
        topic, levels = message.topic, message.topic.split("/")
        if len(levels) in (4, 5) and levels[0] == "homeassistant" and levels[-1] == "config":
            count -= len(by_topic.pop(topic, ()))
            try:
                every = _entities(levels, message.payload) if message.payload.strip() else ()
                found = tuple(islice(every, MAX_ENTITIES + 1 - count))
                if count + len(found) > MAX_ENTITIES:
                    raise UnreadableError(f"more than {MAX_ENTITIES:,} entities")
                by_topic[topic], count = found, count + len(found)
            except UnreadableError as error:
                faults[f"{topic[:LONGEST]}: {str(error)[:100]}" if len(faults) < MAX_FAULTS else "other topics"] += 1
    return [entity for _, found in sorted(by_topic.items()) for entity in found], faults


def _entities(levels: list[str], payload: bytes) -> Iterator[Entity]:
    if len(payload) > MAX_BYTES:
        raise UnreadableError(f"more than {MAX_BYTES} bytes")
    shared = _long(json_of(payload))
    parts = shared.pop("components", None) if levels[1] == "device" else {levels[-2]: {"platform": levels[1]}}
    device = _long(shared.get("device", {}))
    ids = device.get("identifiers")
    key = _text(ids[0] if isinstance(ids, list) and ids else ids) or levels[2]
    for name, part in _long(parts).items():
        config = {"name": name} | shared | _long(part) | {"via_device": device.get("via_device")}
        if config.get("platform") in ("sensor", "switch", "select", "number"):
            yield Entity(config["platform"], key, _text(device.get("name")) or key, _texts(config))


def _texts(config: dict[str, Any]) -> dict[str, str]:
    reports = config.get("availability")
    if isinstance(reports, list | dict):
        # Of several reports none is the device's own.
        one = _long(reports if isinstance(reports, dict) else reports[0] if len(reports) == 1 else {})
        config |= {"availability_topic": one.get("topic"), "availability_template": one.get("value_template")}
        config["payload_available"] = one.get("payload_available")
    if isinstance(config.get("options"), list):
        config["options"] = ", ".join(map(_text, config["options"][:20]))
    base, topics = _text(config.get("~")), ("availability_topic", "command_topic", "state_topic")
    texts = {key: _text(config.get(key)) for key in VOCABULARY["keys"]}
    return texts | {key: re.sub(r"^~|~$", lambda _: base, texts[key]) for key in topics if base}


def _long(given: object) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise UnreadableError("not an object where Home Assistant has one")
    long = VOCABULARY["long"]
    return {"_".join(long.get(word, word) for word in key.split("_")): value for key, value in given.items()}


def _text(value: object) -> str:
    """Return a text or number; of one that is too long to be used, the start."""
    return value[: LONGEST + 1] if isinstance(value, str) else ""
