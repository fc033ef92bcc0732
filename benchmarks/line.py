"""Bytes of a reading between a gateway and the utility."""

import numpy as np

from benchmarks.backlog import AS_GATEWAYS_SEND
from benchmarks.series import KINDS, RESOLUTIONS_MWH, Values
from benchmarks.town import MINUTE_SLOTS, packed_batch
from commonwatt.model.block_keys import Keys
from commonwatt.model.blocks import Quality, make_blocks
from commonwatt.model.records import HISTORY_BYTES, RecordType
from commonwatt.model.units import QUARTER_S
from commonwatt.protocol.topics import BATCHES, gateway_up
from harness.docs.measured import Goal, Section, Table

MICROGRID = "r001"
FIRST_METER = 10_001
QUARTER = 1_988_889
SERIES = 40  # series of one kind, in a microgrid
PUBLISH_BYTES = 7  # bytes of an MQTT PUBLISH at QoS 1 without topic and payload: head, length, topic length, packet id
P6_BYTES = 23  # P6: its compact record
MOST = 1.6  # the goal, bytes a reading


def sent(kind: RecordType, values: Values, there: slice) -> int:
    """Return the bytes of a batch of the slots that are ``there``."""
    n = len(values)
    keys = Keys(
        np.arange(n, dtype=np.uint64) % SERIES + FIRST_METER,
        np.full(n, int(kind), np.uint8),
        (QUARTER - np.arange(n) // SERIES).astype(np.uint32),
    )
    quality = np.zeros(values.shape, np.uint8)
    quality[:, there] = Quality.EXACT
    batch = packed_batch(MICROGRID, 1, QUARTER * QUARTER_S, make_blocks(keys, values, quality))
    return len(batch) + len(gateway_up(MICROGRID, BATCHES)) + PUBLISH_BYTES


def bench(*, smoke: bool = False) -> Section:
    """Count the bytes of every kind of reading at every resolution."""
    blocks = 12 if smoke else AS_GATEWAYS_SEND
    loads = {"whole": (blocks, slice(None)), "minute": (SERIES, slice(0, MINUTE_SLOTS))}
    rng = np.random.default_rng(4)
    rows, households = [], 0.0
    for name, (kind, make) in KINDS.items():
        for resolution in RESOLUTIONS_MWH:
            each = []
            for count, there in loads.values():
                values = make(rng, count, resolution)
                each.append(sent(kind, values, there) / values[:, there].size)
            households = households or each[0]
            rows.append((name, f"{resolution:,} mWh", *(f"{value:.2f}" for value in each)))
    return Section(
        title="A reading on the line",
        about="Messages from a gateway to the utility with their MQTT heads, without TLS and TCP (the LTE lines "
        f"below include these). *Whole*: a batch of a backlog, {blocks} quarter-hours of {SERIES} meters, as a "
        f"gateway makes it. *Minute*: a batch of the last minute, {MINUTE_SLOTS} readings of each meter. The noise of "
        "a reading has eight bits of entropy at 1 mWh, so one byte is the lower bound.",
        tables=(
            Table(
                title="Bytes a reading",
                columns=("readings", "resolution", "whole", "minute"),
                rows=(
                    *rows,
                    ("the meters' records", "", *(str(HISTORY_BYTES),) * 2),
                    ("RAnGeRS' compact records", "", *(str(P6_BYTES),) * 2),
                ),
            ),
        ),
        goals=(
            Goal(
                what="whole quarter-hours of a household at 1 mWh",
                value=households,
                unit="bytes a reading",
                at_most=MOST,
                limited_by="Noise is packed at the width of the largest value; each block has a head and a checksum.",
            ),
        ),
        notes=("In a minute's batch, one byte of each reading is the checksum of its part, which every store keeps.",),
    )
