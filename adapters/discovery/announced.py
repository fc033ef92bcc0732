"""``adapter discover``: what devices announce to Home Assistant, as TOML for the adapter's file."""

import re
import tomllib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from itertools import accumulate, count, islice
from pathlib import Path
from tempfile import NamedTemporaryFile
from textwrap import indent
from typing import Any, NamedTuple

from adapters.commands import commands_of
from adapters.mapping.payloads import FORMATS, MAX_BYTES
from adapters.mapping.readers import known_presets, readers_of
from adapters.mapping.values import UnreadableError, json_of
from adapters.messages import RecordedMessage
from commonwatt.config.adapter import AdapterSettings
from commonwatt.config.files import load_settings, toml_table
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.text import printable
from commonwatt.runtime.files import replace_file


def form_of(payload: bytes) -> str:
    """Return the name of the format that a payload without blanks around it seems to have."""
    return {b"{": "json", b"[": "json", b"/": "p1"}.get(payload[:1], "csv" if b"," in payload else "plain")


def numbers_in(payload: bytes) -> Iterator[tuple[str, Decimal]]:
    """Yield the path and value of each number in a payload without blanks around it."""
    with suppress(UnreadableError):
        yield from FORMATS[form_of(payload)](payload).numbers() if len(payload) <= MAX_BYTES else ()


_KEY = r"""\.[A-Za-z_]\w*|\[\s*(?:'[^'"\\{}*]+'|"[^'"\\{}*]+"|\d{1,3})\s*\]"""
_FILTERS = r"(?:\s*\|\s*(?:float|int|round|is_defined)(?:\([\d.]*\))?)*"
# A filter behind a factor would be of the factor alone, but for one behind a parenthesis.
_SIMPLE = re.compile(
    rf"\{{\{{-?[\s(]*(?:value_json(?P<keys>(?:{_KEY})*)|value){_FILTERS}(?:\s*\){_FILTERS})?"
    rf"(?:\s*(?P<sign>[*/])\s*(?P<number>\d+(?:\.\d+)?))?(?:\s*\){_FILTERS})?\s*-?\}}\}}",
    re.ASCII,
)

Place = tuple[str, Decimal]  # a value's path, as in rules (empty: the message is the value), and its factor


def place_of(template: str) -> Place | None:
    """Return the place that a template reads; ``None``: it does more than that."""
    match = _SIMPLE.fullmatch(template.strip() or "{{ value }}")
    if match is None or template.count("(") != template.count(")"):
        return None
    number = Decimal(match["number"] or 1)
    scale = 1 / number if match["sign"] == "/" and number else number
    if not number or (match["sign"] == "/" and scale * number != 1):
        return None
    keys = [key.strip(".[]").strip(" '\"").replace(".", r"\.") for key in re.findall(_KEY, match["keys"] or "")]
    return ".".join(keys), scale


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
        return next((folder for folder in reversed(folders) if folder.rpartition("/")[2].lower() in names), "")

    @property
    def online(self) -> tuple[str, str] | None:
        """Topic and payload that report the device itself as online, in its own folder; else ``None``."""
        topic, payload = self.texts["availability_topic"], self.texts["payload_available"] or "online"
        own = self.folder and topic.rpartition("/")[0] == self.folder and (topic + payload).isprintable()
        other = self.texts["availability_template"] or self.texts["via_device"] or set(topic + payload) & set("+#{}*")
        return (topic, payload) if own and not other else None


def announced_in(messages: Iterable[RecordedMessage]) -> tuple[list[Entity], Counter[str]]:
    """Return the entities that are announced last on each topic, and what can't be used: topic and reason, counted."""
    by_topic, faults, count = dict[str, tuple[Entity, ...]](), Counter[str](), 0
    for message in messages:
        topic, levels = message.topic, message.topic.split("/")
        if len(levels) in (4, 5) and levels[0] == "homeassistant" and levels[-1] == "config":
            count -= len(by_topic.pop(topic, ()))
            try:
                every = _entities(levels, message.payload) if message.payload.strip() else ()
                entities = tuple(islice(every, MAX_ENTITIES + 1 - count))
                if count + len(entities) > MAX_ENTITIES:
                    raise UnreadableError(f"more than {MAX_ENTITIES:,} entities")
                by_topic[topic], count = entities, count + len(entities)
            except UnreadableError as error:
                faults[f"{topic[:LONGEST]}: {str(error)[:100]}" if len(faults) < MAX_FAULTS else "other topics"] += 1
    return [entity for _, entities in sorted(by_topic.items()) for entity in entities], faults


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
        report = _long(reports if isinstance(reports, dict) else reports[0] if len(reports) == 1 else {})
        config |= {"availability_topic": report.get("topic"), "availability_template": report.get("value_template")}
        config["payload_available"] = report.get("payload_available")
    if isinstance(config.get("options"), list):
        config["options"] = ", ".join(map(_text, config["options"][:20]))
    base, topics = _text(config.get("~")), ("availability_topic", "command_topic", "state_topic")
    texts = {key: _text(config.get(key)) for key in VOCABULARY["keys"]}
    return texts | {key: re.sub(r"^~|~$", lambda _: base, texts[key]) for key in topics if base}


def _long(short: object) -> dict[str, Any]:
    if not isinstance(short, dict):
        raise UnreadableError("not an object where Home Assistant has one")
    long = VOCABULARY["long"]
    return {"_".join(long.get(word, word) for word in key.split("_")): value for key, value in short.items()}


def _text(value: object) -> str:
    """Return a text or number; of one that is too long to be used, the start."""
    return value[: LONGEST + 1] if isinstance(value, str) else ""


_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_BY_HAND = (
    "an announcement may name another device's topic: if this is the device's own, fill in the preset of the meter"
    " whose load it switches, remove each # below and set obeys in [[meter]] to its kind"
)
_FILLED_IN = re.compile(r"\{(?:device|channel|watts|percent|seconds|until|level)\}")

# Its entity, what a person must do, and its table.
Command = tuple[str, str, dict[str, Any]]


class RefusedError(ValueError):
    """An entity can't be used; the message is the reason for people."""


@dataclass(kw_only=True, eq=False)
class DiscoveredQuantity:
    """A register, a power or a level."""

    entity: Entity  # what announced it
    kind: str  # ``register``, ``power`` or ``level``
    place: Place  # where it is in a message
    direction: str  # ``incoming`` or ``outgoing``; empty: nothing says it
    configured: bool = False  # whether the adapter's file reads it already


Device = tuple[
    list[DiscoveredQuantity], DiscoveredQuantity | None, list[Command]
]  # all its meters, its battery's level and its commands


def plan_of(entities: Iterable[Entity], configured: Collection[tuple[str, str]]) -> tuple[list[Device], list[str]]:
    """Return the devices with meters that are not configured, by topic and path; and what is not used and why."""
    by_device, devices, refused = defaultdict[str, list[Entity]](list), list[Device](), list[str]()
    for entity in entities:
        by_device[entity.device].append(entity)
    for every in by_device.values():
        quantities: list[DiscoveredQuantity] = [*_made(quantity_of, every, refused)]
        for q in quantities:
            q.configured = (q.entity.texts["state_topic"], q.place[0]) in configured
        kind = "register" if any(q.kind == "register" for q in quantities) else "power"
        meters, new = [q for q in quantities if q.kind == kind], [q for q in quantities if not q.configured]
        levels, is_new = [q for q in new if q.kind == "level"], any(q.kind == kind for q in new)
        # A level in percent alone is of a sensor's small battery.
        without = [q for q in levels[is_new:] if meters or q.entity.texts["unit_of_measurement"] != "%"]
        refused += [f"{q.entity.title}: no new meter for a level" for q in without]
        refused += [f"{q.entity.title}: a register counts" for q in new if q.kind not in (kind, "level")]
        if is_new:
            devices.append((meters, levels[0] if levels else None, [*_made(command_of, every, refused)]))
    return devices, refused


def words_in(*texts: str) -> set[str]:
    """Return the words of names, in small letters."""
    return {word.lower() for text in texts for word in _WORD.findall(text)}


def _made(make: Callable[[Entity], Any], entities: Iterable[Entity], refused: list[str]) -> Iterator[Any]:
    for entity in entities:
        try:
            if (result := make(entity)) is not None:
                yield result
        except RefusedError as why:
            refused.append(f"{entity.title}: {why}")


def quantity_of(entity: Entity) -> DiscoveredQuantity | None:
    """Return what a sensor measures; ``None``: nothing of energy.

    Raises:
        RefusedError: It can't be used.
    """
    texts, unit, units = entity.texts, entity.texts["unit_of_measurement"], VOCABULARY["units"]
    by_unit = next((kind for kind in ("register", "power") if unit in units[kind]), None)
    kind = VOCABULARY["kinds"].get(texts["device_class"]) if texts["device_class"] else by_unit
    if entity.component != "sensor" or kind is None:
        return None
    if unit not in units[kind]:
        raise RefusedError(f"unit {unit or 'missing'}")
    place = _place(entity)
    words = words_in(texts["name"], place[0] or texts["state_topic"].rpartition("/")[2])
    if kind == "register":
        if texts["state_class"] not in ("total_increasing", "total"):
            raise RefusedError(f"no register: state_class {texts['state_class'] or 'missing'}")
        if texts["last_reset_value_template"] or (periods := words.intersection(VOCABULARY["periods"])):
            raise RefusedError(f"begins again: {'last_reset' if texts['last_reset_value_template'] else min(periods)}")
    ways = [way for way, known in VOCABULARY["directions"].items() if words.intersection(known)]
    return DiscoveredQuantity(entity=entity, kind=kind, place=place, direction=ways[0] if len(ways) == 1 else "")


def command_of(entity: Entity) -> Command | None:
    """Return an entity's command; ``None``: it has none, or is a setting.

    Raises:
        RefusedError: It can't be used.
    """
    texts, is_switch = entity.texts, entity.component == "switch"
    if not texts["command_topic"] or (is_switch and texts["entity_category"]):
        return None
    _check(texts["command_topic"])
    if texts["command_template"]:
        raise RefusedError(f"template not translated: {texts['command_template']}")
    on = off = told_on = told_off = ""
    choice = texts["options"] or f"{texts['min']} to {texts['max']} {texts['unit_of_measurement']}".strip()
    hint = _BY_HAND if is_switch else f"fill in on and off, of: {choice}; {_BY_HAND}"
    if is_switch:
        # Less load is the switch's off.
        on, off = texts["payload_off"] or "OFF", texts["payload_on"] or "ON"
        told_on, told_off = texts["state_off"] or on, texts["state_on"] or off
        for text in (on, off, told_on, told_off):
            _check(_FILLED_IN.sub("+", text), without="+")
    table: dict[str, Any] = {"kind": "reduce" if is_switch else "share", "topic": texts["command_topic"]}
    table |= {"on": on, "off": off, "failsafe": "will"}
    try:
        path, _ = _place(entity)
        table["confirm"] = {"topic": texts["state_topic"]} | ({"path": path} if path else {})
        table["confirm"] |= {"on": told_on, "off": told_off}
    except RefusedError as why:
        return f"{entity.title} has no confirmation: {why}", hint, table
    return entity.title, hint, table


def _place(entity: Entity) -> Place:
    _check(entity.texts["state_topic"])
    if (place := place_of(entity.texts["value_template"])) is None:
        raise RefusedError(f"template not translated: {entity.texts['value_template']}")
    if place[1] != 1 and entity.component != "sensor":
        raise RefusedError(f"a factor: {entity.texts['value_template']}")
    _check(place[0] or "-", without="")
    return place


def _check(text: str, without: str = "+#{}") -> None:
    # A command's topic with `..` would lead out of the device's folder.
    if not text or len(text) > LONGEST or not text.isprintable() or set(text) & set(without) or ".." in text.split("/"):
        raise RefusedError(f"can't be used: {text or 'a missing topic'}")


def snippet(devices: Iterable[Device], settings: AdapterSettings) -> Iterator[str]:
    """Yield rules and meters as TOML; each command is a comment, and a meter that a person must decide on."""
    taken = {*known_presets(), *(rule.preset for rule in settings.rule)}
    ids = count(max((meter.id for meter in settings.meter), default=0) + 1)
    for meters, level, commands in devices:
        alike = Counter(q.direction for q in meters)
        for meter in (q for q in meters if not q.configured):
            name = re.sub(r"[^a-z0-9]+", "-", meter.entity.title.lower()).strip("-") or "own"
            names = (f"{name[:26]}-{n}" if n else name[:32] for n in count())
            preset = next(name for name in names if name not in taken)
            taken.add(preset)
            yield f"# {printable(meter.entity.title)}\n{_rule(meter, preset)}\n"
            if level is not None:
                yield f"# {printable(level.entity.title)}: needs the meter's capacity_wh\n{_rule(level, preset)}\n"
            level = None
            yield _meter(meter, {"id": next(ids), "preset": preset}, is_alike=alike[meter.direction] > 1)
        for title, hint, table in commands:
            yield f"# {printable(title)}: {printable(hint)}\n"
            yield indent(toml_table("[[command]]", {"preset": "its meter's preset"} | table), "# ") + "\n"


def add_to(path: Path, text: str) -> None:
    """Add TOML at the end of an adapter's file."""
    before, status = path.read_bytes(), path.stat()
    content = before + (b"\n" if before.endswith(b"\n") else b"\n\n") + text.encode()
    with NamedTemporaryFile(dir=path.parent, suffix=".toml") as whole:
        whole.write(content)
        whole.flush()
        try:
            settings = load_settings(Path(whole.name), "adapter", AdapterSettings)
            readers_of(settings), commands_of(settings)
        except ConfigError as error:
            raise ConfigError(f"{path} is as it was: {error}".replace(whole.name, str(path))) from None
    replace_file(path.resolve(), content, mode=status.st_mode & 0o777, owner=(status.st_uid, status.st_gid))


def _meter(meter: DiscoveredQuantity, table: dict[str, object], *, is_alike: bool) -> str:
    is_total = meter.kind == "register" and meter.entity.texts["state_class"] == "total"
    doubts = ["state_class total may fall: keep it if it never does\n"] if is_total else []
    doubts += [] if meter.direction else ["fill in the direction: incoming or outgoing\n"]
    doubts += ["one of several alike: keep it if it contains none of the others\n"] if is_alike else []
    table["source"] = printable(meter.entity.device_name)[:LONGEST]
    table |= {"direction": meter.direction} if meter.direction != "incoming" else {}
    remarks = indent("".join(["its id in the town file\n", *doubts]), "# ")
    return remarks + indent(toml_table("[[meter]]", table), "# " if doubts else "") + "\n"


def _rule(quantity: DiscoveredQuantity, preset: str) -> str:
    return toml_table("[[rule]]", rule_of(quantity, preset))


def rule_of(quantity: DiscoveredQuantity, preset: str) -> dict[str, Any]:
    """Return the table of the rule that reads it."""
    texts, (path, scale) = quantity.entity.texts, quantity.place
    table: dict[str, Any] = {"preset": preset, "topic": texts["state_topic"]}
    table |= {"path": path} if path else {"format": "plain"}
    table |= {"kind": quantity.kind, "unit": texts["unit_of_measurement"]}
    table |= {"scale": f"{scale:f}"} if scale != 1 else {}
    table |= {"sign": "positive"} if quantity.kind == "power" else {}
    if (online := quantity.entity.online) is not None:
        table |= {"restart_topic": online[0], "restart_payload": online[1]}
    return table
