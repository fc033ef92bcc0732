"""The access rules: the topics that each device may use, and how (docs/security.md). Pure, and default deny.

One table lists what each role may publish and receive; everything else is refused. The patterns of our broker, and the
access file of a Mosquitto that runs in its place (``broker.mosquitto``), are made from it. No pattern for a published
or received topic admits a wildcard, and only the utility's filter spans two microgrids.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from commonwatt.identity.devices import Device, DeviceRole
from commonwatt.model.units import ID_PATTERN
from commonwatt.protocol.topics import (
    ACKS,
    BATCHES,
    COMMANDS,
    EVENTS,
    LEVELS,
    LTE,
    MICROGRID_PATTERN,
    OUTCOMES,
    PLANT,
    RECORDS,
    ROOT,
    STATUS,
    all_gateways_up,
)


class TopicAction(StrEnum):
    """An action of a device on a topic."""

    PUBLISH = "publish"
    SUBSCRIBE = "subscribe"
    RECEIVE = "receive"


@dataclass(frozen=True)
class TopicGrant:
    """Topics that a role may use."""

    # The levels below the first one. ``{microgrid}`` is the device's own, or one that it serves; ``{identity}`` is its
    # own; ``{a_meter}`` and ``{a_microgrid}`` are any.
    path: str
    leaves: tuple[str, ...]  # the permitted last levels


_METER_LEAVES = (RECORDS, EVENTS, LEVELS, OUTCOMES)
_GATEWAY_LEAVES = (BATCHES, STATUS, OUTCOMES)
_PLANT_LEAVES = (STATUS, OUTCOMES)
_DOWN_LEAVES = (ACKS, COMMANDS)

# A gateway has two grants each: on the broker of its microgrid (its meters' topics), and on the head-end (its own).
GRANTS: Mapping[tuple[DeviceRole, TopicAction], tuple[TopicGrant, ...]] = {
    (DeviceRole.METER, TopicAction.PUBLISH): (TopicGrant("{microgrid}/{identity}/u", _METER_LEAVES),),
    (DeviceRole.METER, TopicAction.RECEIVE): (TopicGrant("{microgrid}/{identity}/d", _DOWN_LEAVES),),
    (DeviceRole.GATEWAY, TopicAction.PUBLISH): (
        TopicGrant("{microgrid}/{a_meter}/d", _DOWN_LEAVES),
        TopicGrant("{identity}/u", _GATEWAY_LEAVES),
    ),
    (DeviceRole.GATEWAY, TopicAction.RECEIVE): (
        # LTE is published by the broker itself; no device may publish it.
        TopicGrant("{microgrid}/{a_meter}/u", (*_METER_LEAVES, LTE)),
        TopicGrant("{identity}/d", _DOWN_LEAVES),
    ),
    (DeviceRole.PLANT, TopicAction.PUBLISH): (TopicGrant("{identity}/u", _PLANT_LEAVES),),
    (DeviceRole.PLANT, TopicAction.RECEIVE): (TopicGrant("{identity}/d", (COMMANDS,)),),
    # A controller's name also matches the plant's.
    (DeviceRole.UTILITY, TopicAction.PUBLISH): (TopicGrant("{a_microgrid}/d", _DOWN_LEAVES),),
    (DeviceRole.UTILITY, TopicAction.RECEIVE): (TopicGrant("{a_microgrid}/u", _GATEWAY_LEAVES),),
}
"""What each role may publish and receive."""

IDENTITY_PATTERNS: Mapping[DeviceRole, str] = {
    DeviceRole.METER: ID_PATTERN,
    DeviceRole.GATEWAY: MICROGRID_PATTERN,
    DeviceRole.UTILITY: MICROGRID_PATTERN,
    DeviceRole.PLANT: PLANT,
}
"""The pattern of each role's whole identity."""


def _pattern(role: DeviceRole, action: TopicAction, wildcard: str = "{}") -> re.Pattern[str]:
    """Return the pattern of the granted topics; ``wildcard`` also admits a wildcard for a meter or a leaf."""
    lines = []
    for grant in GRANTS[role, action]:
        path = grant.path.format(
            microgrid=f"(?P<microgrid>{MICROGRID_PATTERN})",
            identity=f"(?P<identity>{IDENTITY_PATTERNS[role]})",
            a_meter=wildcard.format(ID_PATTERN),
            a_microgrid=MICROGRID_PATTERN,
        )
        lines.append(f"{path}/{wildcard.format('(?:' + '|'.join(grant.leaves) + ')')}")
    return re.compile(f"{ROOT}/(?:{'|'.join(lines)})")


# A filter may match what may be received. The named groups must be of the device's microgrids, and its ``identity``.
_RULES: dict[tuple[DeviceRole, TopicAction], re.Pattern[str]] = {
    **{key: _pattern(*key) for key in GRANTS},
    **{
        (role, TopicAction.SUBSCRIBE): _pattern(role, TopicAction.RECEIVE, wildcard=r"(?:\+|{})")
        for role in (DeviceRole.METER, DeviceRole.GATEWAY, DeviceRole.PLANT)
    },
    (DeviceRole.UTILITY, TopicAction.SUBSCRIBE): re.compile(re.escape(all_gateways_up())),
}


def allowed(device: Device, action: TopicAction, topic: str) -> bool:
    """Return whether ``device`` may do ``action`` on ``topic`` (a filter if it subscribes)."""
    match = _RULES[device.role, action].fullmatch(topic)
    if match is None:
        return False
    own = {"microgrid": (device.microgrid, *device.serves), "identity": (device.identity,)}
    return all(value is None or value in own[name] for name, value in match.groupdict().items())
