"""Which settings of a gateway a command changes, by name; the later command of a setting is the one wanted (pure).

A microgrid's next manager has to be sent what the last ones set and still holds (R12).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from commonwatt.model.units import EpochSeconds
from commonwatt.protocol.controller_commands import Action

STATES = (Action.REDUCE, Action.SUPPLY, Action.NOTICE, Action.ISOLATE, Action.HOLD)
"""Commands that set one state of the microgrid, of their name."""

STRATEGY, WEIGHTS, METERS = "strategy", "weights", "meters"
AT_GATEWAY, AT_METERS = "aggregation at gateway", "aggregation at meters"

WANTED_S = 86_400  # most seconds for which such a command is sent
# What a successor is never commanded (it has no switch), and what concerns the controller that is named alone.
_NEVER = {Action.ISOLATE, Action.RATES, Action.UPGRADE, Action.WITNESS}


def settings_of(message: Mapping[str, Any]) -> frozenset[str]:
    """Return the names of the settings that a command, by its keys, changes; none for a command that only asks."""
    match message.get("cmd"):
        case Action.SCHEDULE:
            meters = {METERS} if message.get("meters") else set()
            return frozenset({*(message.get("periods") or ()), *meters})
        case Action.SHARING:
            return frozenset(name for name in (STRATEGY, WEIGHTS) if message.get(name) is not None)
        case Action.AGGREGATE | Action.DEAGGREGATE:
            return frozenset({AT_METERS if message.get("at") == "meters" else AT_GATEWAY})
        case Action.RATES:
            return frozenset({f"rates of {message['tariff']}"})
        case Action.STOP:
            return frozenset({f"stop of {message['meter']}"})
        case Action.ASSIGN:
            return frozenset({"orders"})
        case Action.UPGRADE:
            return frozenset({"release"})
        case Action.SPARE:
            return frozenset({"spared"})
        case cmd if cmd in STATES:
            return frozenset({str(cmd)})
    return frozenset()


def without(message: Mapping[str, Any], taken: frozenset[str]) -> dict[str, Any] | None:
    """Return a command without the settings that a later one changes; ``None``: nothing of it is left."""
    if not settings_of(message) - taken:
        return None
    left = {key: value for key, value in message.items() if key not in taken}
    if "periods" in left:
        left["periods"] = {name: value for name, value in (left["periods"] or {}).items() if name not in taken}
    return left


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """An earlier command to a microgrid."""

    message: Mapping[str, Any]  # its message
    created: EpochSeconds  # when it was given
    is_done: bool  # whether it was carried out; otherwise it is still sent by itself


def to_repeat(newest_first: Iterable[Earlier], now: EpochSeconds) -> Iterator[dict[str, Any]]:
    """Yield the messages of what is in force, the newest first; each setting comes once.

    Durations are those that are left. An end that passed, and what is still being sent, is left out.
    """
    seen: frozenset[str] = frozenset()
    for each in newest_first:
        message = without(each.message, seen)
        if message is None or message["cmd"] in _NEVER:
            continue
        if (message.get("from_time") or 0) <= now:
            seen |= settings_of(message)
        left_s = WANTED_S if message.get("for_s") is None else each.created + message["for_s"] - now
        until = message["until"] if message["cmd"] == Action.HOLD else now + min(left_s, WANTED_S)
        if not each.is_done or left_s <= 0 or until <= now:
            continue
        yield message | {"until": until} | ({} if message.get("for_s") is None else {"for_s": left_s})
