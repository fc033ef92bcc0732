"""What is in force at a gateway before a change, and the command that puts it back (pure).

The values come from the gateway's last heartbeat; what no heartbeat says comes from the utility's own last change.
"""

from typing import Any

from commonwatt.model.units import EpochSeconds
from commonwatt.model.words import moment
from commonwatt.protocol.controller_commands import PERIODS, Action
from commonwatt.protocol.heartbeats import Heartbeat
from utility.control.words import OWN, called
from utility.outbox.settings import AT_GATEWAY, AT_METERS, METERS, STRATEGY, WEIGHTS

Before = dict[str, Any]  # by setting, its value in force as JSON; None: not known

_WITH_END = (Action.REDUCE, Action.ISOLATE, Action.HOLD)


def in_force(settings: frozenset[str], heartbeat: Heartbeat | None) -> Before:
    """Return what is in force at a gateway, of some settings.

    Args:
        settings: Their names (``settings.settings_of``).
        heartbeat: The gateway's last heartbeat; ``None``: there was none.
    """
    return {name: _value(name, heartbeat) for name in sorted(settings)}


def _value(name: str, heartbeat: Heartbeat | None) -> Any:
    if heartbeat is None:
        return None
    is_tuned = name in heartbeat.tuned
    if name in PERIODS:
        seconds = heartbeat.periods.get(name)
        return None if seconds is None else {"value": seconds, "tuned": is_tuned}
    if name == AT_GATEWAY:
        return {"value": heartbeat.commanded_aggregation, "until": heartbeat.ends.get("aggregation")}
    # A gateway before 0.3 says none of the following.
    if heartbeat.strategy is None:
        return None
    if name == STRATEGY:
        return {"value": heartbeat.strategy, "tuned": is_tuned}
    if name == METERS:
        by_itself = METERS not in heartbeat.tuned and any("meters" in each for each in (heartbeat.saves or {}).values())
        return {"value": "none" if by_itself else heartbeat.meters}
    ends = {str(cmd): until for cmd, until in heartbeat.ends.items()}
    return _state(ends.get(name)) if name in _WITH_END else None


def _state(until: EpochSeconds | None) -> dict[str, Any]:
    return {"value": "off" if until is None else "on", "until": until}


def inverse(before: Before, now: EpochSeconds) -> dict[str, Any] | None:
    """Return the fields of the command, with ``cmd``, that puts back what was in force; ``None``: that is not known.

    What had an end goes on to that end. An aggregation at the meters ends; the schedule then holds again.
    """
    if AT_METERS in before:
        return {"cmd": Action.DEAGGREGATE, "at": "meters"}
    if not before or any(value is None for value in before.values()):
        return None
    if AT_GATEWAY in before:
        mode, left = before[AT_GATEWAY]["value"], _left(before[AT_GATEWAY]["until"], now)
        if mode == "none" or left == 0:
            return {"cmd": Action.DEAGGREGATE, "at": "gateway"}
        return {"cmd": Action.AGGREGATE, "at": "gateway", "mode": mode} | ({} if left is None else {"for_s": left})
    for cmd in _WITH_END:
        if cmd in before:
            left = _left(before[cmd]["until"], now) or 0
            return {"cmd": cmd, "state": "on", "for_s": left} if left else {"cmd": cmd, "state": "off"}
    if STRATEGY in before:
        strategy = before[STRATEGY]
        return {"cmd": Action.SHARING, STRATEGY: strategy["value"] if strategy["tuned"] else "file"}
    periods = {name: value["value"] if value["tuned"] else None for name, value in before.items() if name in PERIODS}
    meters = {METERS: before[METERS]["value"]} if METERS in before else {}
    return {"cmd": Action.SCHEDULE, "periods": periods} | meters if periods or meters else None


def _left(until: EpochSeconds | None, now: EpochSeconds) -> int | None:
    return None if until is None else max(0, until - now)


def before_words(before: Before | None) -> str:
    """Return what was in force as text for people."""
    return ", ".join(_words(name, value) for name, value in (before or {}).items())


def _words(name: str, value: Any) -> str:
    if value is None:
        return f"{called(name)}: not known"
    if name == WEIGHTS:  # of a change by 0.3, by which a person could set them
        return "weights " + (", ".join(f"{meter}={weight}" for meter, weight in value.items()) or OWN)
    text = f"{called(name)} {value['value']}" + (" s" if name in PERIODS else "")
    if "tuned" in value:
        return text + (" (tuned)" if value["tuned"] else f" ({OWN})")
    return text if value.get("until") is None else f"{text} until {moment(value['until'])}"
