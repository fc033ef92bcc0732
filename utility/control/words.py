"""What a command asks and what a gateway answered, in words (pure)."""

from collections.abc import Iterator, Mapping
from typing import Any

from commonwatt.model.units import QUARTER_S
from commonwatt.model.words import counted, moment
from commonwatt.protocol.controller_commands import Action

_UNITS = (("h", 3_600), ("min", 60), ("s", 1))
OWN = "as installed"  # what a setting is that only the gateway's own file has
_CALLED = {
    "collect_s": "collect",
    "levels_s": "levels",
    "relay_s": "relay",
    "put_s": "meters' puts",
    "compact_s": "compact",
    "for_s": "minutes",
    "import_limit_w": "limit",
}
_PLAIN = ("strategy", "meter", "state", "supply", "power")


def called(name: str) -> str:
    """Return what people call a setting or a field of a command."""
    return _CALLED.get(name, name.replace("_", " "))


def duration(seconds: int) -> str:
    """Return a duration in the largest unit that has a whole number of it."""
    return next(f"{seconds // length} {unit}" for unit, length in _UNITS if seconds % length == 0)


def words_of(message: Mapping[str, Any]) -> str:
    """Return a command's content, without what equals the defaults, as text for people.

    Args:
        message: A ``ControllerCommand``'s keys and values.
    """
    cmd = message["cmd"]
    details = []
    if cmd in (Action.AGGREGATE, Action.DEAGGREGATE) and message.get("at") == "meters":
        details.append("at meters")
    if cmd == Action.AGGREGATE and message.get("mode") == "lossy":
        details.append("lossy")
    if message.get("for_s"):
        details.append(f"for {duration(message['for_s'])}")
    if blocks := message.get("blocks"):
        details.append(counted(len(blocks), "block"))
    if message.get("first_quarter") is not None and message.get("last_quarter") is not None:
        first, end = message["first_quarter"] * QUARTER_S, (message["last_quarter"] + 1) * QUARTER_S
        details.append(f"{moment(first)} to {moment(end)}")
    details += [str(message[name]) for name in _PLAIN if message.get(name) is not None]
    if message.get("import_limit_w") is not None:
        details.append(f"at most {message['import_limit_w']} W")
    details += _weights(message.get("weights"))
    if message.get("from_time") is not None:
        details.append(f"from {moment(message['from_time'])}")
    details += [f"meters {message['meters']}"] if message.get("meters") else []
    periods = message.get("periods") or {}
    details += [f"{called(name)} {OWN if seconds is None else f'{seconds} s'}" for name, seconds in periods.items()]
    return f"{cmd} {', '.join(details)}".rstrip()


def _weights(weights: Mapping[str, Any] | None) -> list[str]:
    if weights is None:
        return []
    return [f"{meter}={weight}" for meter, weight in weights.items()] or ["weights 1"]


def answered(outcome: Mapping[str, Any] | None) -> str:
    """Return a gateway's answer as text for people; empty without one.

    Args:
        outcome: A ``ControllerOutcome``'s keys and values.
    """
    if not outcome:
        return ""
    text = ": ".join(str(outcome[key]) for key in ("result", "reason") if outcome.get(key))
    if outcome.get("sent") is not None:
        text += f", {counted(outcome['sent'], 'block')} sent"
    if outcome.get("absent"):
        text += f", of {counted(len(outcome['absent']), 'block')} not all there"
    return "; ".join([text, *_info(outcome)])


def _info(outcome: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a controller says of itself: facts, its microgrids, what is outstanding, the newest first."""
    if info := outcome.get("info"):
        yield ", ".join(f"{called(name)} {value}" for name, value in info.items())
    for one in outcome.get("assignments") or ():
        epoch = f", epoch {one['epoch'][0]} of rank {one['epoch'][1]}" if one.get("epoch") else ""
        yield f"{'manages' if one['manages'] else 'takes records of'} {one['microgrid']}{epoch}"
    for one in outcome.get("outstanding") or ():
        until = f" until {moment(one['until'])}" if one.get("until") else ""
        yield f"{one['what']}{until}" + (f", not confirmed by meter {one['meter']}" if one.get("meter") else "")
