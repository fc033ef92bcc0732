"""What relaying takes on an LTE line at a period, for previews and the gateway's ladder (docs/control.md)."""

from dataclasses import dataclass
from math import ceil
from typing import Literal

from commonwatt.model.units import QUARTER_S, SLOT_S

LineRate = tuple[float, float]  # bytes a second up (sent by the controller) and down
HEAD_BYTES = 64  # bytes of a batch without blocks
BLOCK_BYTES = 9  # bytes of a block's key and payload head in a compressed batch; its readings come on top
# Bytes of all heads of a batch and of its acknowledgement: IP, TCP, TLS, MQTT, the acknowledgement itself.
MESSAGE_BYTES: LineRate = (151, 199)
# Bytes of heads for each further packet of a batch; every second one is acknowledged by a packet of its own.
SEGMENT_BYTES: LineRate = (52, 26)
PACKET_BYTES = 1_348  # bytes of content in a packet
PUBLIC_WEIGHT = 2.0  # of a public microgrid's backlog after an outage; any other's is 1
PUT_S = 60  # seconds between the puts of a meter that sends by itself (M4), unless its gateway wishes another period
# Bytes of heads of a meter's put, of its acknowledgement, which goes up, and of TCP's answers: IP, TCP, TLS, MQTT
# and their own.
PUT_BYTES: LineRate = (173, 157)
# Bytes of a ping of a meter that put nothing for so many seconds: its keepalive.
PING_BYTES: LineRate = (64, 104)
PING_S = 75
# Seconds of silence after which a gateway sends an empty batch, on average: it looks every 5 s for 30 s of silence.
HELLO_S = 32.5
SETTLED_S = 60  # seconds after a quarter's end at which a gateway that aggregates relays it
MONTH_S = 30 * 86_400  # a whole month
AVERAGED = 10  # readings in one average
ENOUGH_S = 3_600  # seconds for which readings must have been counted before there is a figure

Aggregation = Literal["none", "lossless", "lossy"]


@dataclass(frozen=True, kw_only=True)
class Relayed:
    """What a controller relayed in the last days, as the utility or itself counted it."""

    seconds: int  # for how long it was counted
    batches: int  # batches with blocks
    blocks: int  # blocks in them
    slots: int  # readings in them
    size: int  # bytes of these batches
    meters: int = 0  # meters that put by themselves over the line


@dataclass(frozen=True, kw_only=True)
class Relaying:
    """How a gateway relays."""

    relay_s: int  # seconds between two batches
    aggregation: Aggregation  # what it relays: readings as they come, whole quarter-hours, or averages of them
    put_s: int = PUT_S  # seconds between the meters' puts


def line_of(relayed: Relayed, relaying: Relaying) -> LineRate:
    """Return the bytes a second that batches of readings, and the heads of meters' puts, take on the line.

    Args:
        relayed: What was counted, at whatever period.
        relaying: The periods and the aggregation to compute for.
    """
    series = relayed.slots * SLOT_S / relayed.seconds
    reading = max(0, relayed.size - HEAD_BYTES * relayed.batches - BLOCK_BYTES * relayed.blocks) / relayed.slots
    readings_s = relayed.slots / relayed.seconds / (AVERAGED if relaying.aggregation == "lossy" else 1)
    blocks_s = series / QUARTER_S + (series / relaying.relay_s if relaying.aggregation == "none" else 0)
    every_s = relaying.relay_s if relaying.aggregation == "none" else max(relaying.relay_s, QUARTER_S)
    content_s = BLOCK_BYTES * blocks_s + reading * readings_s
    messages_s = messages_every(every_s)
    packets_s = content_s / PACKET_BYTES
    puts_s = relayed.meters / relaying.put_s
    pings_s = relayed.meters / PING_S if relaying.put_s > PING_S else 0
    heads = zip(MESSAGE_BYTES, SEGMENT_BYTES, PUT_BYTES, PING_BYTES, strict=True)
    up, down = (m * messages_s + s * packets_s + put * puts_s + ping * pings_s for m, s, put, ping in heads)
    return up + HEAD_BYTES * messages_s + content_s, down


def messages_every(relay_s: int) -> float:
    """Return the messages a second at a period of relaying: a batch, and empty ones in the silence after it."""
    return ceil(relay_s / HELLO_S) / relay_s
