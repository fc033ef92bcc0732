"""What gateways and the utility decide by: relaying, return after an outage, saving of bytes, supply."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import ceil
from typing import Literal

from commonwatt.model.units import QUARTER_S, SLOT_S, EpochSeconds, MicrogridId

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
class RelayedDays:
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


def line_of(relayed: RelayedDays, relaying: Relaying) -> LineRate:
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


STABLE_S = 300  # seconds of stable voltage without which no command closes the switch

UNMANAGED_S = 900
"""The same, if no manager commanded it to close since it opened; also since the end of a command that held it open: a
manager whose renewal is late has not given the switch up."""

BLOCKS = 6  # blocks in which all microgrids but the public one return
BLOCK_S = 240  # seconds between two blocks: the last one returns 24 minutes after the public microgrid


def return_delay_s(microgrid: MicrogridId, returned: EpochSeconds, *, is_public: bool) -> int:
    """Return the seconds that a microgrid waits after a stable voltage: the public one none, the others by block.

    The block is random for each return. Only what closes the switch needs to know it: nothing else has to agree.

    Args:
        returned: When the voltage came back, as the part that closes the switch observed it.
        is_public: Whether it is the public one.
    """
    if is_public:
        return 0
    return BLOCK_S * (1 + hashlib.sha256(f"{microgrid} {returned}".encode()).digest()[0] % BLOCKS)


class SavingMeasure(StrEnum):
    """What saves bytes, in the order of the ladder's steps."""

    QUARTERS = "quarters"  # only whole quarter-hours are relayed
    METERS = "meters"  # the meters aggregate without loss
    PUTS = "puts"  # the meters that accept a period of puts put less often
    AVERAGES = "averages"  # averages are relayed


LINE, DISK, BACKLOG, UTILITY = "line", "disk", "backlog", "utility"
REASONS = {LINE: "the LTE line", DISK: "the disk", BACKLOG: "the backlog", UTILITY: "the utility"}
"""Each reason for people: what bytes are saved for."""

WORDS = {
    SavingMeasure.QUARTERS: "whole quarter-hours are relayed",
    SavingMeasure.METERS: "meters send identical readings as one",
    SavingMeasure.PUTS: "meters send less often",
    SavingMeasure.AVERAGES: "averages are relayed",
}
"""Each measure for people."""


def saving_words(saves: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    """Return for what bytes are saved, and how, in words; those of a later version as they are."""
    words: dict[str, str] = {str(measure): text for measure, text in WORDS.items()}
    return [(REASONS.get(name, name), ", ".join(words.get(one, one) for one in how)) for name, how in saves.items()]


LASTS_H = 12
"""Hours for which, in a shortage, the energy above the plant's reserve has to last: for the classes above, then for a
class itself."""


class SupplyState(StrEnum):
    """What the regional grid reports of its supply; in every state but ``NORMAL`` all microgrids reduce."""

    NORMAL = "NORMAL"
    LOW = "LOW"
    CRITICAL = "CRITICAL"
    EMPTY = "EMPTY"
