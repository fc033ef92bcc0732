"""Which settings of a gateway a command changes, by name (pure): the later command of a setting is the one wanted."""

from collections.abc import Mapping
from typing import Any

from commonwatt.protocol.controller_commands import Action

STATES = (Action.REDUCE, Action.SUPPLY, Action.NOTICE, Action.ISOLATE, Action.HOLD)
"""Commands that set one state of the microgrid, of their name."""

STRATEGY, WEIGHTS, METERS = "strategy", "weights", "meters"
AT_GATEWAY, AT_METERS = "aggregation at gateway", "aggregation at meters"


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
