"""Who may publish, subscribe to and receive what (design 5, 9). Pure, and default deny.

One line for each role and action: what the topic (for a subscription, the filter) must look like, as a whole. The
named groups must equal the device's own ``microgrid`` and ``identity``; everything not written here is refused. No
pattern for a published or received topic admits a wildcard, and no filter spans two microgrids but the utility's one.
"""

import re
from enum import StrEnum

from commonwatt.devices import Device, Role
from commonwatt.topics import (
    ACKS,
    BATCHES,
    COMMANDS,
    EVENTS,
    LEVELS,
    MICROGRID_PATTERN,
    OUTCOMES,
    RECORDS,
    ROOT,
    STATUS,
    all_gateways_up,
)


class Action(StrEnum):
    """What a device wants to do with a topic."""

    PUBLISH = "publish"
    SUBSCRIBE = "subscribe"
    RECEIVE = "receive"


_METER = r"(?:0|[1-9][0-9]{0,19})"
_METER_LEAF = f"(?:{RECORDS}|{EVENTS}|{LEVELS}|{OUTCOMES})"
_GATEWAY_LEAF = f"(?:{BATCHES}|{STATUS}|{OUTCOMES})"
_DOWN_LEAF = f"(?:{ACKS}|{COMMANDS})"
_OWN_MICROGRID = f"(?P<microgrid>{MICROGRID_PATTERN})"
_OWN_METER = f"{_OWN_MICROGRID}/(?P<identity>{_METER})"
_OWN_GATEWAY = f"(?P<identity>{MICROGRID_PATTERN})"


def _or_any(pattern: str) -> str:
    return rf"(?:\+|{pattern})"


# A gateway has two lines each: on the broker of its microgrid (among its meters), and on the head-end (by itself).
_RULES: dict[tuple[Role, Action], re.Pattern[str]] = {
    key: re.compile(pattern)
    for key, pattern in {
        (Role.METER, Action.PUBLISH): f"{ROOT}/{_OWN_METER}/u/{_METER_LEAF}",
        (Role.METER, Action.SUBSCRIBE): f"{ROOT}/{_OWN_METER}/d/{_or_any(_DOWN_LEAF)}",
        (Role.METER, Action.RECEIVE): f"{ROOT}/{_OWN_METER}/d/{_DOWN_LEAF}",
        (Role.GATEWAY, Action.PUBLISH): (
            f"{ROOT}/(?:{_OWN_MICROGRID}/{_METER}/d/{_DOWN_LEAF}|{_OWN_GATEWAY}/u/{_GATEWAY_LEAF})"
        ),
        (Role.GATEWAY, Action.SUBSCRIBE): (
            f"{ROOT}/(?:{_OWN_MICROGRID}/{_or_any(_METER)}/u/{_or_any(_METER_LEAF)}"
            f"|{_OWN_GATEWAY}/d/{_or_any(_DOWN_LEAF)})"
        ),
        (Role.GATEWAY, Action.RECEIVE): (
            f"{ROOT}/(?:{_OWN_MICROGRID}/{_METER}/u/{_METER_LEAF}|{_OWN_GATEWAY}/d/{_DOWN_LEAF})"
        ),
        (Role.UTILITY, Action.PUBLISH): f"{ROOT}/{MICROGRID_PATTERN}/d/{_DOWN_LEAF}",
        (Role.UTILITY, Action.SUBSCRIBE): re.escape(all_gateways_up()),
        (Role.UTILITY, Action.RECEIVE): f"{ROOT}/{MICROGRID_PATTERN}/u/{_GATEWAY_LEAF}",
    }.items()
}


def allowed(device: Device, action: Action, topic: str) -> bool:
    """Say whether ``device`` may do ``action`` with ``topic`` (a filter when it subscribes)."""
    match = _RULES[device.role, action].fullmatch(topic)
    if match is None:
        return False
    own = {"microgrid": device.microgrid, "identity": device.identity}
    return all(value is None or value == own[name] for name, value in match.groupdict().items())
