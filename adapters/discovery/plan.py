"""From announced entities to meters, their commands, and what a person must still say."""

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from adapters.discovery.configs import LONGEST, VOCABULARY, Entity
from adapters.discovery.templates import Place, place_of

_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_BY_HAND = (
    "an announcement may name another device's topic: if this is the device's own, fill in the preset of the meter"
    " whose load it switches, remove each # below and set obeys in [[meter]] to its kind"
)
_FILLED_IN = re.compile(r"\{(?:device|channel|watts|percent|seconds|until|level)\}")

# Its entity, what a person must do, and its table.
Command = tuple[str, str, dict[str, Any]]


class _RefusedError(ValueError):
    """An entity can't be used; the message is the reason for people."""


@dataclass(kw_only=True, eq=False)
class Quantity:
    """A register, a power or a level."""

    entity: Entity  # what announced it
    kind: str  # ``register``, ``power`` or ``level``
    place: Place  # where it is in a message
    direction: str  # ``incoming`` or ``outgoing``; empty: nothing says it
    configured: bool = False  # whether the adapter's file reads it already


Device = tuple[list[Quantity], Quantity | None, list[Command]]  # all its meters, its battery's level and its commands


def plan_of(entities: Iterable[Entity], configured: Collection[tuple[str, str]]) -> tuple[list[Device], list[str]]:
    """Return the devices with meters that are not configured, by topic and path; and what is not used and why."""
    by_device, devices, refused = defaultdict[str, list[Entity]](list), list[Device](), list[str]()
    for entity in entities:
        by_device[entity.device].append(entity)
    for every in by_device.values():
        found: list[Quantity] = [*_made(_quantity, every, refused)]
        for one in found:
            one.configured = (one.entity.texts["state_topic"], one.place[0]) in configured
        kind = "register" if any(one.kind == "register" for one in found) else "power"
        meters, new = [one for one in found if one.kind == kind], [one for one in found if not one.configured]
        levels, is_new = [one for one in new if one.kind == "level"], any(one.kind == kind for one in new)
        # A level in percent alone is of a sensor's small battery.
        without = [one for one in levels[is_new:] if meters or one.entity.texts["unit_of_measurement"] != "%"]
        refused += [f"{one.entity.title}: no new meter for a level" for one in without]
        refused += [f"{one.entity.title}: a register counts" for one in new if one.kind not in (kind, "level")]
        if is_new:
            devices.append((meters, levels[0] if levels else None, [*_made(_command, every, refused)]))
    return devices, refused


def _made(make: Callable[[Entity], Any], entities: Iterable[Entity], refused: list[str]) -> Iterator[Any]:
    for entity in entities:
        try:
            if (made := make(entity)) is not None:
                yield made
        except _RefusedError as why:
            refused.append(f"{entity.title}: {why}")


def _quantity(entity: Entity) -> Quantity | None:
    """Return what a sensor measures; ``None``: nothing of energy."""
    texts, unit, units = entity.texts, entity.texts["unit_of_measurement"], VOCABULARY["units"]
    by_unit = next((kind for kind in ("register", "power") if unit in units[kind]), None)
    kind = VOCABULARY["kinds"].get(texts["device_class"]) if texts["device_class"] else by_unit
    if entity.component != "sensor" or kind is None:
        return None
    if unit not in units[kind]:
        raise _RefusedError(f"unit {unit or 'missing'}")
    place = _place(entity)
    named = f"{texts['name']} {place[0] or texts['state_topic'].rpartition('/')[2]}"
    words = {word.lower() for word in _WORD.findall(named)}
    if kind == "register":
        if texts["state_class"] not in ("total_increasing", "total"):
            raise _RefusedError(f"no register: state_class {texts['state_class'] or 'missing'}")
        if texts["last_reset_value_template"] or (periods := words.intersection(VOCABULARY["periods"])):
            raise _RefusedError(f"begins again: {'last_reset' if texts['last_reset_value_template'] else min(periods)}")
    ways = [way for way, known in VOCABULARY["directions"].items() if words.intersection(known)]
    return Quantity(entity=entity, kind=kind, place=place, direction=ways[0] if len(ways) == 1 else "")


def _command(entity: Entity) -> Command | None:
    """Return an entity's command; ``None``: it has none, or is a setting."""
    texts, is_switch = entity.texts, entity.component == "switch"
    if not texts["command_topic"] or (is_switch and texts["entity_category"]):
        return None
    _check(texts["command_topic"])
    if texts["command_template"]:
        raise _RefusedError(f"template not translated: {texts['command_template']}")
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
    except _RefusedError as why:
        return f"{entity.title} has no confirmation: {why}", hint, table
    return entity.title, hint, table


def _place(entity: Entity) -> Place:
    _check(entity.texts["state_topic"])
    if (place := place_of(entity.texts["value_template"])) is None:
        raise _RefusedError(f"template not translated: {entity.texts['value_template']}")
    if place[1] != 1 and entity.component != "sensor":
        raise _RefusedError(f"a factor: {entity.texts['value_template']}")
    _check(place[0] or "-", without="")
    return place


def _check(text: str, without: str = "+#{}") -> None:
    if not text or len(text) > LONGEST or not text.isprintable() or set(text) & set(without):
        raise _RefusedError(f"can't be used: {text or 'a missing topic'}")
