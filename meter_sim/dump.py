"""The contents of a fleet's store as JSON lines of blocks and events: the unacknowledged ones, or the truth log."""

from collections.abc import Iterator
from itertools import groupby

import numpy as np

from commonwatt.codec.dumps import block_lines, event_lines
from commonwatt.device.store import DeviceStore
from commonwatt.model.blocks import Blocks, Quality, from_records, make_blocks
from commonwatt.model.units import QUARTER_S, SLOT_S, SLOTS
from meter_sim.truth import true_events, true_records

RECORD = np.dtype(
    [
        ("type", ">u1"),
        ("lossy", ">u1"),
        ("id", ">u8"),
        ("meter", ">u8"),
        ("account", ">u2"),
        ("start", ">u4"),
        ("end", ">u4"),
        ("reading", ">i8"),
    ]
)
"""The 36 bytes of a history record (M2)."""


def held_lines(store: DeviceStore) -> Iterator[str]:
    """Yield the blocks and events that the gateway has not acknowledged."""
    for records in store.held_records():
        yield from block_lines(from_records(records))
    yield from event_lines(store.held_events())


def true_lines(store: DeviceStore) -> Iterator[str]:
    """Yield all blocks and events ever made; each block comes once and complete."""
    for _, slots in groupby(true_records(store), lambda slot: (slot[0] - SLOT_S) // QUARTER_S):
        yield from block_lines(_blocks(b"".join(records for _, records in slots)))
    yield from event_lines(true_events(store))


def _blocks(data: bytes) -> Blocks:
    """Make blocks of the records of one quarter; each record covers one slot, and each slot has one record."""
    records = np.frombuffer(data, RECORD)
    meters, number = np.unique(records["meter"].astype(np.uint64), return_inverse=True)
    # One sortable number: ids of a table of places may have all of their 64 bits.
    keys, row = np.unique(number * 256 + records["type"], return_inverse=True)
    quarter = int(records["start"][0]) // QUARTER_S
    slot = records["start"].astype(np.int64) % QUARTER_S // SLOT_S
    values = np.zeros((len(keys), SLOTS), np.int64)
    quality = np.zeros((len(keys), SLOTS), np.uint8)
    values[row, slot] = records["reading"]
    quality[row, slot] = Quality.EXACT
    return make_blocks([(int(meters[key // 256]), int(key % 256), quarter) for key in keys], values, quality)
