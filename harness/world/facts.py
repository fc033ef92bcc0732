"""The data of every tier about the slots of a violation."""

from typing import TYPE_CHECKING

import numpy as np

from commonwatt.codec.packing import unpack_sound
from commonwatt.model.records import unpack_history
from commonwatt.model.units import QUARTER_S, SLOT_S
from harness.world import masks
from harness.world.masks import Key
from utility.readings.store.reads import all_blocks

if TYPE_CHECKING:
    from harness.world.world import World


def of_slots(world: "World", key: Key, mask: int) -> list[str]:
    """Return, as text, where some slots of a block are and were stored."""
    meter, kind, quarter = key
    first = (mask & -mask).bit_length() - 1 if mask else 0
    at = quarter * QUARTER_S + first * SLOT_S
    ledger = world.ledger
    lines = [f"The slots: {masks.text(key, mask)}; of the first, at {at}:"]
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
