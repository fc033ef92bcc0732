"""The slots of a part of a block, without unpacking its values; what every tier has of some slots."""

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from commonwatt.codec.packing import unpack_sound
from commonwatt.model.records import HistoryRecord, unpack_history
from commonwatt.model.units import QUARTER_S, SLOT_S, SLOTS, quarter_of
from utility.readings.store.reads import all_blocks

if TYPE_CHECKING:
    from harness.world.world import World

ALL = (1 << SLOTS) - 1

Key = tuple[int, int, int]  # (meter, record type, quarter)


class Mask(NamedTuple):
    """Masks of slots by quality; no slot is in both."""

    exact: int = 0
    averaged: int = 0

    def join(self, other: "Mask") -> "Mask":
        """Return the union of two parts' slots."""
        exact = self.exact | other.exact
        return Mask(exact, (self.averaged | other.averaged) & ~exact)

    def common(self, other: "Mask") -> "Mask":
        """Return the slots of another part that this one has in that quality or better."""
        return Mask(self.exact & other.exact, self.any & other.averaged)

    @property
    def any(self) -> int:
        """The slots in any quality."""
        return self.exact | self.averaged

    def lacks(self, other: "Mask") -> int:
        """Return the slots that the other has in better quality, or alone."""
        return other.exact & ~self.exact | other.averaged & ~(self.exact | self.averaged)

    def lacks_any(self, other: "Mask") -> int:
        """Return the slots that only the other has, whatever their quality."""
        return (other.exact | other.averaged) & ~(self.exact | self.averaged)


Holdings = defaultdict[Key, Mask]


def nothing() -> Holdings:
    """Return empty holdings."""
    return defaultdict(Mask)


def of_payload(payload: bytes) -> Mask:
    """Return the slots a packed block holds (docs/protocol.md, "Block payload")."""
    flags, at, present, averaged = payload[0], 1, ALL, 0
    if flags & 1:
        present, at = int.from_bytes(payload[1:9], "big"), 9
    if flags & 2:
        averaged = int.from_bytes(payload[at : at + 8], "big")
    return Mask(present & ~averaged, averaged)


def of_parts(parts: Iterable[tuple[Key, bytes]]) -> Holdings:
    """Return the union of several parts' slots."""
    held = nothing()
    for key, payload in parts:
        held[key] = held[key].join(of_payload(payload))
    return held


def of_record(record: HistoryRecord) -> dict[Key, Mask]:
    """Return the slots a record holds."""
    held: dict[Key, Mask] = {}
    for at in range(record.start, record.end, SLOT_S):
        key = record.meter_id, record.record_type, quarter_of(at)
        bit = 1 << at % QUARTER_S // SLOT_S
        held[key] = held.get(key, Mask()).join(Mask(0, bit) if record.lossy else Mask(bit, 0))
    return held


def text(key: Key, mask: int) -> str:
    """Describe slots: their number, block and first start."""
    first = (mask & -mask).bit_length() - 1
    return f"{mask.bit_count()} slots of meter {key[0]} type {key[1]} from {key[2] * QUARTER_S + first * SLOT_S}"


def of_slots(world: "World", key: Key, mask: int) -> list[str]:
    """Return, as text, where some slots of a block are and were stored."""
    meter, kind, quarter = key
    first = (mask & -mask).bit_length() - 1 if mask else 0
    at = quarter * QUARTER_S + first * SLOT_S
    ledger = world.ledger
    lines = [f"The slots: {text(key, mask)}; of the first, at {at}:"]
    made = ledger.made.get((meter, kind), {}).get(at)
    lines.append(f"  made: {'never' if made is None else made}")
    if (meter, kind, at) in ledger.excused:
        lines.append("  no process had it after a store or a memory was lost")
    for fleet in world.fleets.values():
        if meter in fleet.meters:
            records = [unpack_history(data) for data in fleet.meters[meter].history.rows]
            held = [r for r in records if r.record_type == kind and r.start <= at < r.end]
            lines.append(f"  the meter holds {[(r.record_id, r.reading, r.lossy) for r in held] or 'nothing'}")
    for gateway in (each for each in world.all_holders() if not each.store.closed):
        lines += [
            f"  {gateway.name} part {part.id}, relayed={part.relayed}: {_slot(key, part.payload, first)}"
            for part in gateway.store.block_parts([key])
        ]
    for blocks in all_blocks(world.utility.database, quarter, quarter):
        for row in range(len(blocks)):
            if blocks.key(row) == key:
                value, quality = int(blocks.values[row, first]), int(blocks.quality[row, first])
                lines.append(f"  the utility: value {value}, quality {quality}")
    return lines


def _slot(key: Key, payload: bytes, slot: int) -> str:
    blocks, damaged = unpack_sound([key], [payload])
    if damaged:
        return "damaged"
    there = np.flatnonzero(blocks.quality[0]).tolist()
    return f"slots {there[0]} to {there[-1]}, value {int(blocks.values[0, slot])}, quality {blocks.quality[0, slot]}"
