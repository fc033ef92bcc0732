"""Interval blocks: one meter, one record type, one quarter-hour, 60 slots; keys, means and join.

A slot has the *set* of values received at the best quality, nearly always one value. A join is the union of the sets
at the best quality, so it is commutative, associative and idempotent: retries, duplicates, reordering and two
controllers of one meter need no special case. The smallest value is the slot's value; the others are ``extras``. A slot
with extras is a conflict.

Blocks come in batches (arrays over n blocks), never as one object each.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from commonwatt.model.records import HistoryRecord
from commonwatt.model.units import GROUP_SLOTS, SLOT_S, SLOTS

Total = TypeVar("Total", int, npt.NDArray[np.int64])


def mean_of_group(total: Total) -> Total:
    """Return the mean of ten readings, rounded half up, from their sum; of one group, or of many as an array.

    Twice ten readings of up to 2^53 stay below 2^63.
    """
    return (2 * total + GROUP_SLOTS) // (2 * GROUP_SLOTS)


Key: TypeAlias = tuple[int, int, int]  # meter, record type and quarter of a block


@dataclass(frozen=True, eq=False)
class Keys:
    """The keys of n blocks; equal to a list of the same tuples."""

    meter: npt.NDArray[np.uint64]  # uint64 (n,), meter ids
    record_type: npt.NDArray[np.uint8]  # uint8 (n,)
    quarter: npt.NDArray[np.uint32]  # uint32 (n,), epoch seconds // 900

    @classmethod
    def of(cls, keys: "Keys | Sequence[Key]") -> "Keys":
        """Make ``Keys`` of (meter, type, quarter) tuples; return ``Keys`` unchanged."""
        if isinstance(keys, Keys):
            return keys
        meter, record_type, quarter = zip(*keys, strict=True) if len(keys) else ((), (), ())
        return cls(np.array(meter, np.uint64), np.array(record_type, np.uint8), np.array(quarter, np.uint32))

    def __len__(self) -> int:
        return len(self.meter)

    def __getitem__(self, row: int) -> Key:
        return int(self.meter[row]), int(self.record_type[row]), int(self.quarter[row])

    def __iter__(self) -> Iterator[Key]:
        return zip(self.meter.tolist(), self.record_type.tolist(), self.quarter.tolist(), strict=True)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Keys | list) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def take(self, rows: npt.NDArray[np.intp]) -> "Keys":
        """Return the keys at ``rows``, in that order."""
        return Keys(self.meter[rows], self.record_type[rows], self.quarter[rows])


EXTRA = np.dtype([("row", np.int64), ("slot", np.uint8), ("value", np.int64)])
"""One value of a conflicting slot beyond the smallest: which block, which slot, which value."""

_INT64_MAX = np.iinfo(np.int64).max
_GROUPS = SLOTS // GROUP_SLOTS


class Quality(IntEnum):
    """How good the value of a slot is; higher wins."""

    MISSING = 0
    AVERAGED = 1
    EXACT = 2


@dataclass(frozen=True, eq=False)
class Blocks:
    """A batch of n interval blocks, or of parts of them."""

    meter: npt.NDArray[np.uint64]  # uint64 (n,), meter ids
    record_type: npt.NDArray[np.uint8]  # uint8 (n,)
    quarter: npt.NDArray[np.uint32]  # uint32 (n,), epoch seconds // 900
    values: npt.NDArray[np.int64]  # int64 (n, 60), milliwatt-hours; 0 where missing
    quality: npt.NDArray[np.uint8]  # uint8 (n, 60), ``Quality``
    extras: npt.NDArray[np.void]  # ``EXTRA`` (k,), sorted; the values of conflicting slots beyond the smallest

    def __len__(self) -> int:
        return len(self.meter)

    def key(self, row: int) -> tuple[int, int, int]:
        """Return (meter, record type, quarter) of one block."""
        return int(self.meter[row]), int(self.record_type[row]), int(self.quarter[row])

    def keys(self) -> Keys:
        """Return (meter, record type, quarter) of every block."""
        return Keys(self.meter, self.record_type, self.quarter)

    def extras_of(self, row: int) -> list[tuple[int, int]]:
        """Return (slot, value) of one block's extras, ascending."""
        return [(int(e["slot"]), int(e["value"])) for e in self.extras[self.extras["row"] == row]]

    def take(self, rows: Sequence[int] | npt.NDArray[np.intp]) -> "Blocks":
        """Return the blocks at ``rows`` (each at most once), in that order."""
        index = np.asarray(rows, dtype=np.intp)
        position = np.full(len(self), -1, dtype=np.int64)
        position[index] = np.arange(len(index))
        extras = self.extras[position[self.extras["row"]] >= 0].copy()
        extras["row"] = position[extras["row"]]
        extras.sort(order=["row", "slot", "value"])
        return Blocks(
            meter=self.meter[index],
            record_type=self.record_type[index],
            quarter=self.quarter[index],
            values=self.values[index],
            quality=self.quality[index],
            extras=extras,
        )


def make_blocks(
    keys: Keys | Sequence[Key],
    values: npt.ArrayLike,
    quality: npt.ArrayLike,
    extras: Iterable[tuple[int, int, int]] = (),
) -> Blocks:
    """Make blocks from (meter, type, quarter) keys, (n, 60) values and qualities, and (row, slot, value) extras.

    Values of missing slots are set to 0, so that equal blocks have equal arrays.
    """
    keys = Keys.of(keys)
    n = len(keys)
    quality_array = np.asarray(quality, dtype=np.uint8).reshape(n, SLOTS)
    value_array = np.where(quality_array > 0, np.asarray(values, dtype=np.int64).reshape(n, SLOTS), 0)
    extra_array = np.array(sorted(extras), dtype=EXTRA)
    return Blocks(
        meter=keys.meter,
        record_type=keys.record_type,
        quarter=keys.quarter,
        values=value_array,
        quality=quality_array,
        extras=extra_array,
    )


def empty() -> Blocks:
    """Return a batch of no blocks."""
    return make_blocks([], [], [])


def join(batches: Sequence[Blocks]) -> Blocks:
    """Join all parts of the same block, over all ``batches``; the result has each key once, in ascending order."""
    batches = [batch for batch in batches if len(batch)]
    if not batches:
        return empty()
    parts = concatenate(batches) if len(batches) > 1 else batches[0]
    if _ascends(parts):
        return parts
    order = np.lexsort((parts.quarter, parts.record_type, parts.meter))
    parts = parts.take(order)
    changed = (np.diff(parts.meter) != 0) | (np.diff(parts.record_type) != 0) | (np.diff(parts.quarter) != 0)
    starts = np.concatenate(([0], np.flatnonzero(changed) + 1))
    if len(starts) == len(parts):
        return parts
    group = np.concatenate(([0], np.cumsum(changed)))
    best = np.maximum.reduceat(parts.quality, starts)
    stands = (parts.quality == best[group]) & (parts.quality > 0)
    smallest = np.minimum.reduceat(np.where(stands, parts.values, _INT64_MAX), starts)
    values = np.where(best > 0, smallest, 0)
    return Blocks(
        meter=parts.meter[starts],
        record_type=parts.record_type[starts],
        quarter=parts.quarter[starts],
        values=values,
        quality=best,
        extras=_join_extras(parts, group, stands, values),
    )


def _ascends(parts: Blocks) -> bool:
    """Return whether the keys are unique and ascending, as after a join."""
    keys = (parts.meter, parts.record_type, parts.quarter)
    later, same = np.zeros(len(parts) - 1, np.bool_), np.ones(len(parts) - 1, np.bool_)
    for column in keys:
        later |= same & (column[1:] > column[:-1])
        same &= column[1:] == column[:-1]
    return bool(later.all())


def _join_extras(
    parts: Blocks, group: npt.NDArray[np.intp], stands: npt.NDArray[np.bool_], values: npt.NDArray[np.int64]
) -> npt.NDArray[np.void]:
    """Collect the extras of a join: all values at the best quality except the smallest."""
    rows, slots = np.nonzero(stands & (parts.values != values[group]))
    own = np.empty(len(rows), dtype=EXTRA)
    own["row"], own["slot"], own["value"] = group[rows], slots, parts.values[rows, slots]
    old = parts.extras[stands[parts.extras["row"], parts.extras["slot"]]].copy()
    old["row"] = group[old["row"]]
    extras = np.concatenate((own, old))
    extras = extras[extras["value"] != values[extras["row"], extras["slot"]]]
    return np.unique(extras) if len(extras) else extras  # The first np.unique of a process takes a megabyte.


def concatenate(batches: Sequence[Blocks]) -> Blocks:
    """Concatenate batches, without a join."""
    if not batches:
        return empty()
    offsets = np.cumsum([0, *(len(batch) for batch in batches)])
    extras = np.concatenate([batch.extras for batch in batches])
    extras["row"] += np.repeat(offsets[:-1], [len(batch.extras) for batch in batches])
    return Blocks(
        meter=np.concatenate([batch.meter for batch in batches]),
        record_type=np.concatenate([batch.record_type for batch in batches]),
        quarter=np.concatenate([batch.quarter for batch in batches]),
        values=np.concatenate([batch.values for batch in batches]),
        quality=np.concatenate([batch.quality for batch in batches]),
        extras=extras,
    )


def from_records(records: Sequence[HistoryRecord]) -> Blocks:
    """Split accepted records at quarter-hours and join them into parts.

    Records with different values for a slot become a conflict, as with any two parts.
    """
    if not records:
        return empty()
    meter = np.array([record.meter_id for record in records], np.uint64)
    columns = [(r.record_type, r.start, r.end, r.lossy, r.reading) for r in records]
    record_type, start, end, lossy, reading = np.array(columns, np.int64).T
    slots = np.maximum(-(-(end - start) // SLOT_S), 0)
    # One row for each slot: the record's index, and the slot number since 1970.
    index = np.repeat(np.arange(len(records)), slots)
    slot = np.arange(len(index)) + np.repeat(start // SLOT_S - (np.cumsum(slots) - slots), slots)
    quality = np.where(lossy != 0, Quality.AVERAGED, Quality.EXACT)
    # Sorted by slot, then best quality first, then smallest value first.
    order = np.lexsort((reading[index], -quality[index], slot, record_type[index], meter[index]))
    index, slot = index[order], slot[order]
    quarter, place = np.divmod(slot, SLOTS)
    block = _starts(meter[index], record_type[index], quarter)
    first = block | _starts(slot)
    row, group = np.cumsum(block) - 1, np.cumsum(first) - 1
    values = np.zeros((int(block.sum()), SLOTS), np.int64)
    qualities = np.zeros(values.shape, np.uint8)
    values[row[first], place[first]] = reading[index[first]]
    qualities[row[first], place[first]] = quality[index[first]]
    more = ~first & (quality[index] == quality[index[first]][group]) & _starts(group, reading[index])
    extras = np.empty(int(more.sum()), EXTRA)
    extras["row"], extras["slot"], extras["value"] = row[more], place[more], reading[index[more]]
    return Blocks(
        meter=meter[index[block]],
        record_type=record_type[index[block]].astype(np.uint8),
        quarter=quarter[block].astype(np.uint32),
        values=values,
        quality=qualities,
        extras=extras,
    )


def _starts(*columns: npt.NDArray[np.int64] | npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Return the rows that differ from the row before in a column; the first row always does."""
    changed = np.zeros(len(columns[0]), np.bool_)
    changed[:1] = True
    for column in columns:
        changed[1:] |= column[1:] != column[:-1]
    return changed


def average(blocks: Blocks) -> Blocks:
    """Apply the lossy algorithm (M7): a group of ten exact slots becomes ten averaged ones holding its mean.

    Groups with a slot that is not exact or has a conflict stay unchanged: their mean could still change, and two
    different means of one group would conflict.
    """
    n = len(blocks)
    if not n:
        return blocks
    values = blocks.values.reshape(n, _GROUPS, GROUP_SLOTS)
    whole = (blocks.quality.reshape(n, _GROUPS, GROUP_SLOTS) == Quality.EXACT).all(axis=2)
    whole[blocks.extras["row"], blocks.extras["slot"] // GROUP_SLOTS] = False
    means = mean_of_group(values.sum(axis=2))
    new_values = np.where(whole[:, :, None], means[:, :, None], values).reshape(n, SLOTS)
    new_quality = np.where(
        whole[:, :, None], np.uint8(Quality.AVERAGED), blocks.quality.reshape(n, _GROUPS, GROUP_SLOTS)
    )
    return replace(blocks, values=new_values, quality=new_quality.reshape(n, SLOTS).astype(np.uint8))


def mask_of(flags: npt.NDArray[np.bool_]) -> int:
    """Return 60 flags as an integer whose bit s (of value 2^s) is slot s."""
    return int.from_bytes(np.packbits(flags, bitorder="little").tobytes(), "little")


def flags_of(mask: int) -> npt.NDArray[np.bool_]:
    """Return the 60 flags of a mask made by ``mask_of``."""
    return np.unpackbits(np.frombuffer(mask.to_bytes(8, "little"), np.uint8), bitorder="little")[:SLOTS].astype(
        np.bool_
    )
