"""The slots of a part of a block, without unpacking its values."""

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from commonwatt.model.records import HistoryRecord
from commonwatt.model.units import QUARTER_S, SLOT_S, SLOTS, quarter_of

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
