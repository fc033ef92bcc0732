"""From announced entities to meters, their commands, and what a person must still say."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from adapters.discovery.configs import LONGEST, Entity
from adapters.discovery.templates import Place, place_of

_CLASSES = {"energy": "register", "power": "power", "energy_storage": "level", "battery": "level"}
_UNITS = {"register": ("Wh", "kWh", "MWh", "J"), "power": ("mW", "W", "kW"), "level": ("Wh", "kWh", "MWh", "%")}
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_FILLED_IN = re.compile(r"\{(?:device|channel|watts|percent|seconds|until|level)\}")

_T = TypeVar("_T")


def _words(text: str) -> frozenset[str]:
    return frozenset(word.lower() for word in _WORD.findall(text))


_PERIODS = _words("today yesterday hour hourly day daily week weekly month monthly year yearly session")
_INCOMING = _words("import imported consumption consumed charged charging")
_OUTGOING = _words("export exported produced production generated generation yield returned discharged discharge")


class _RefusedError(ValueError):
    """An entity can't be used; the message is the reason for people."""


@dataclass(kw_only=True, eq=False)
class Quantity:
    """A register, a power or a level."""

    entity: Entity  # what announced it
    kind: str  # ``register``, ``power`` or ``level``
    place: Place  # where it is in a message
    direction: str  # ``incoming`` or ``outgoing``; empty: nothing says it
    doubts: list[str]  # what a person must look up before it counts
    restart: tuple[str, str] | None = None  # topic and payload of the device's report of its start


class Command(NamedTuple):
    """A command."""

    title: str  # its entity, for people
    table: dict[str, Any]  # its keys
    hint: str  # what a person must fill in


class Device(NamedTuple):
    """A device that has a meter which is not configured yet."""

    meters: list[Quantity]  # its registers, else its powers
    level: Quantity | None  # its battery's level
    commands: list[Command]  # what it can be told


def plan_of(entities: Iterable[Entity], configured: Collection[tuple[str, str]]) -> tuple[list[Device], list[str]]:
    """Return the devices with new meters, and what is not used, with the reason.

    Args:
        configured: Topic and path of the values that are read already.
    """
    by_device, devices, refused = defaultdict[str, list[Entity]](list), list[Device](), list[str]()
    for entity in entities:
        by_device[entity.device].append(entity)
    reports = Counter(topic for every in by_device.values() for topic in {e.texts["availability_topic"] for e in every})
    for every in by_device.values():
        found = [*_made(_quantity, every, refused)]
        kind = "register" if any(one.kind == "register" for one in found) else "power"
        found = [one for one in found if (one.entity.texts["state_topic"], one.place.path) not in configured]
        meters, levels = [one for one in found if one.kind == kind], [one for one in found if one.kind == "level"]
        refused += [f"{one.entity.title}: no meter for a level" for one in (levels[1:] if meters else levels)]
        refused += [f"{one.entity.title}: a register counts" for one in found if one.kind not in (kind, "level")]
        alike = Counter(one.direction for one in meters)
        for one in meters:
            one.restart = _restart(one.entity) if reports[one.entity.texts["availability_topic"]] == 1 else None
            if alike[one.direction] > 1:
                one.doubts.append(f"one of {alike[one.direction]} alike: keep it if none of the others contains it")
        if meters:
            devices.append(Device(meters, levels[0] if levels else None, [*_made(_command, every, refused)]))
    return devices, refused


def _made(make: Callable[[Entity], _T | None], entities: Iterable[Entity], refused: list[str]) -> Iterator[_T]:
    for entity in entities:
        try:
            if (made := make(entity)) is not None:
                yield made
        except _RefusedError as why:
            refused.append(f"{entity.title}: {why}")


def _restart(entity: Entity) -> tuple[str, str] | None:
    """Return the report that a device is online: it is the device's own if its folder has the device's name."""
    topic, payload = entity.texts["availability_topic"], entity.texts["payload_available"] or "online"
    folder = topic.rpartition("/")[0]
    own = folder.rpartition("/")[2].lower() in {entity.device.lower(), entity.device_name.lower()}
    own = own and entity.texts["state_topic"].startswith(f"{folder}/")
    if not own or entity.via or entity.texts["availability_template"] or set(topic + payload) & set("+#{}*"):
        return None
    return (topic, payload) if (topic + payload).isprintable() else None


def _quantity(entity: Entity) -> Quantity | None:
    """Return what a sensor measures; ``None``: nothing of energy."""
    texts, unit = entity.texts, entity.texts["unit_of_measurement"]
    by_unit = next((kind for kind in ("register", "power") if unit in _UNITS[kind]), None)
    kind = _CLASSES.get(texts["device_class"]) if texts["device_class"] else by_unit
    if entity.component != "sensor" or kind is None:
        return None
    if unit not in _UNITS[kind]:
        raise _RefusedError(f"unit {unit or 'missing'}")
    place, state_class, doubts = _place(entity), texts["state_class"], list[str]()
    words = _words(f"{texts['name']} {place.path or texts['state_topic'].rpartition('/')[2]}")
    if kind == "register":
        if state_class not in ("total_increasing", "total"):
            raise _RefusedError(f"no register: state_class {state_class or 'missing'}")
        if texts["last_reset_value_template"] or words & _PERIODS:
            raise _RefusedError(f"begins again: {min(words & _PERIODS, default='last_reset')}")
        if state_class == "total":
            doubts.append("state_class total may fall: keep it if it never does")
    ways = [name for name, known in (("incoming", _INCOMING), ("outgoing", _OUTGOING)) if words & known]
    return Quantity(entity=entity, kind=kind, place=place, direction=ways[0] if len(ways) == 1 else "", doubts=doubts)


def _command(entity: Entity) -> Command | None:
    """Return an entity's command; ``None``: it has none, or is a setting."""
    texts, is_switch = entity.texts, entity.component == "switch"
    if not texts["command_topic"] or (is_switch and texts["entity_category"]):
        return None
    _check(texts["command_topic"])
    if texts["command_template"]:
        raise _RefusedError(f"template not translated: {texts['command_template']}")
    table = {"kind": "reduce" if is_switch else "share", "topic": texts["command_topic"], "on": "", "off": ""}
    confirm = {"topic": texts["state_topic"], "on": "", "off": ""}
    hint = f"on and off, of: {texts['options'] or texts['min'] + ' to ' + texts['max']} {texts['unit_of_measurement']}"
    if is_switch:
        # Less load is the switch's off.
        table |= {"on": texts["payload_off"] or "OFF", "off": texts["payload_on"] or "ON"}
        confirm |= {"on": texts["state_off"] or table["on"], "off": texts["state_on"] or table["off"]}
        hint = "the meter whose load it switches"
        for text in (table["on"], table["off"], confirm["on"], confirm["off"]):
            _check(_FILLED_IN.sub("+", text), without="+")
    confirms = {}
    try:
        if (place := _place(entity)).scale == 1:
            confirms = {"confirm": confirm | ({"path": place.path} if place.path else {}) | {"within_s": 60}}
    except _RefusedError as why:
        hint += f"; without a confirmation: {why}"
    return Command(entity.title, table | {"qos": 1, "failsafe": "none"} | confirms, hint)


def _place(entity: Entity) -> Place:
    _check(entity.texts["state_topic"])
    if (place := place_of(entity.texts["value_template"])) is None:
        raise _RefusedError(f"template not translated: {entity.texts['value_template']}")
    _check(place.path or "-", without="")
    return place


def _check(text: str, without: str = "+#{}") -> None:
    if not text or len(text) > LONGEST or not text.isprintable() or set(text) & set(without):
        raise _RefusedError(f"can't be used: {text or 'a missing topic'}")
