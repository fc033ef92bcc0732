"""Topics: one subtree per microgrid, one per meter below it, up and down apart (docs/protocol.md, "Topics").

Up (``u``) runs towards the utility, down (``d``) towards the meters, so each party needs one subscription and each
access rule is one line. A device's identity is its MQTT client id: a meter's decimal id, a microgrid's id for its
gateway, ``utility`` for the utility, ``plant`` for the town's plant, which has the topics of a controller.
"""

import re
from dataclasses import dataclass

from commonwatt.model.units import ID_PATTERN, ControllerId, MeterId, MicrogridId

ROOT = "cw1"  # first level of every topic; its number is the protocol's version
UTILITY = "utility"  # the utility's identity
PLANT = "plant"  # the plant's identity: the name of a controller at the head-end, and of no microgrid
# The form of a microgrid's name. It starts with a letter, so that it differs from a meter's id.
MICROGRID_PATTERN = r"[a-z][a-z0-9-]{0,15}"
RECORDS = "rec"  # meter, up: a put of history records
EVENTS = "ev"  # meter, up: a put of event records
LEVELS = "lvl"  # meter, up: a live battery level, QoS 0
OUTCOMES = "out"  # meter and gateway, up: the outcome of a command, JSON
BATCHES = "batch"  # gateway, up: a batch of blocks, events and dead letters
LTE = "lte"  # our broker, up: the byte count of its meters' connections on the LTE line, JSON, QoS 0
STATUS = "stat"  # gateway, up: a heartbeat with figures, JSON, QoS 0
ACKS = "ack"  # down: an application acknowledgement
COMMANDS = "cmd"  # down: a command, JSON

_METER_UP = re.compile(rf"{ROOT}/({MICROGRID_PATTERN})/({ID_PATTERN})/u/({RECORDS}|{EVENTS}|{LEVELS}|{OUTCOMES})")
_GATEWAY_UP = re.compile(rf"{ROOT}/({MICROGRID_PATTERN})/u/({BATCHES}|{STATUS}|{OUTCOMES})")


@dataclass(frozen=True)
class MeterTopic:
    """A parsed topic on which a meter publishes."""

    microgrid: MicrogridId
    meter: MeterId
    leaf: str


@dataclass(frozen=True)
class GatewayTopic:
    """A parsed topic on which a gateway publishes to the utility."""

    controller: ControllerId
    leaf: str


def meter_up(microgrid: MicrogridId, meter: MeterId, leaf: str) -> str:
    """Return the topic on which a meter publishes ``leaf``."""
    return f"{ROOT}/{microgrid}/{meter}/u/{leaf}"


def broker_up(microgrid: MicrogridId) -> str:
    """Return the topic on which a microgrid's broker publishes; no meter's id is in it."""
    return f"{ROOT}/{microgrid}/0/u/{LTE}"


def meter_down(microgrid: MicrogridId, meter: MeterId, leaf: str) -> str:
    """Return the topic on which a meter receives ``leaf``; ``+`` gives its one subscription."""
    return f"{ROOT}/{microgrid}/{meter}/d/{leaf}"


def gateway_up(controller: ControllerId, leaf: str) -> str:
    """Return the head-end topic on which a gateway publishes ``leaf``."""
    return f"{ROOT}/{controller}/u/{leaf}"


def gateway_down(controller: ControllerId, leaf: str) -> str:
    """Return the head-end topic on which a gateway receives ``leaf``; ``+`` gives its one subscription."""
    return f"{ROOT}/{controller}/d/{leaf}"


def all_meters_up(microgrid: MicrogridId) -> str:
    """Return the one filter a gateway subscribes to, whatever the number of its meters."""
    return f"{ROOT}/{microgrid}/+/u/+"


def all_gateways_up() -> str:
    """Return the one filter the utility subscribes to."""
    return f"{ROOT}/+/u/+"


def parse_meter_up(topic: str) -> MeterTopic | None:
    """Parse a topic on which a meter publishes; ``None`` for any other."""
    match = _METER_UP.fullmatch(topic)
    if match is None or int(match[2]) >= 2**64:
        return None
    return MeterTopic(match[1], int(match[2]), match[3])


def parse_gateway_up(topic: str) -> GatewayTopic | None:
    """Parse a head-end topic on which a gateway publishes; ``None`` for any other."""
    match = _GATEWAY_UP.fullmatch(topic)
    return None if match is None else GatewayTopic(match[1], match[2])
