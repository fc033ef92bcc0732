"""Rows of exports, from blocks to columns without an object for each: readings, sums by interval, settled, bills."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from commonwatt.model.blocks import Blocks, Quality
from commonwatt.model.records import RecordType
from commonwatt.model.units import QUARTER_S, SLOT_S, SLOTS, MeterId, MicrogridId, Quarter
from utility.billing.bill import Bill, BillLine
from utility.database.numbers import Column as Nullable
from utility.energy.quarters import Quantity, SettledQuality, SettledQuarters
from utility.exports.columns import Coded, Rows, count_of
from utility.exports.selection import HeldMeter, Intervals, Resolution, cut, intervals, is_held
from utility.readings.flows import summaries

_I64 = npt.NDArray[np.int64]
_I32 = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums of some meters, record types and intervals; the arrays have a row for each."""

    meter: npt.NDArray[np.uint64]  # meter ids, uint64
    record_type: npt.NDArray[np.uint8]  # uint8
    start: _I64  # first second of the interval
    last_time: _I64  # first second of the newest quarter that is in the sums
    total: _I64  # sum of the readings; meaningless for levels
    last: _I64  # the newest reading
    lowest: _I64  # the lowest reading
    highest: _I64  # the highest reading
    exact: _I32  # slots with exact readings
    averaged: _I32  # slots with averaged readings
    conflicts: _I32  # slots with conflicting readings
    slots: _I32  # slots of the interval

    def __len__(self) -> int:
        return len(self.meter)

    def take(self, rows: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> "Sums":
        """Return the sums at ``rows``, in that order."""
        return Sums(*(getattr(self, field.name)[rows] for field in fields(self)))


def sums_of(blocks: Blocks, by: Intervals) -> Sums:
    """Return the sums of each block, under the interval that it is in; blocks without a reading are left out."""
    found = {name: column.values for name, column in summaries(blocks).items()}
    index = by.index_of(blocks.quarter)
    made = Sums(
        meter=blocks.meter,
        record_type=blocks.record_type,
        start=by.starts[index],
        last_time=blocks.quarter.astype(np.int64) * QUARTER_S,
        total=found["total"],
        last=found["last_reading"],
        lowest=found["min_reading"],
        highest=found["max_reading"],
        exact=found["exact"].astype(np.int32),
        averaged=found["averaged"].astype(np.int32),
        conflicts=found["conflicts"].astype(np.int32),
        slots=by.slots(index).astype(np.int32),
    )
    there = made.exact + made.averaged > 0
    return made if there.all() else made.take(there)


def merge(parts: Sequence[Sums]) -> Sums:
    """Return the sums over all parts, one for each meter, record type and interval, in that order."""

    def whole_of(name: str) -> npt.NDArray[Any]:
        return np.concatenate([getattr(part, name) for part in parts])

    order = np.lexsort([whole_of(name) for name in ("last_time", "start", "record_type", "meter")])
    # One column after the other, so that memory is needed twice for one column only.
    whole = Sums(*(whole_of(field.name)[order] for field in fields(Sums)))
    keys = (whole.meter, whole.record_type, whole.start)
    changed = np.any([key[1:] != key[:-1] for key in keys], axis=0)
    if changed.all():
        return whole
    begins = np.concatenate(([0], np.flatnonzero(changed) + 1))
    ends = np.concatenate((begins[1:], [len(whole)])) - 1

    def added(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.add.reduceat(values, begins)

    return Sums(
        meter=whole.meter[begins],
        record_type=whole.record_type[begins],
        start=whole.start[begins],
        last_time=whole.last_time[ends],
        total=added(whole.total),
        last=whole.last[ends],
        lowest=np.minimum.reduceat(whole.lowest, begins),
        highest=np.maximum.reduceat(whole.highest, begins),
        exact=added(whole.exact),
        averaged=added(whole.averaged),
        conflicts=added(whole.conflicts),
        slots=whole.slots[begins],
    )


# Most blocks read at once, unless a quarter-hour has more. With more, arrays outgrow the memory that is kept.
BLOCKS_AT_A_TIME = 6_000
ROWS_AT_A_TIME = 250_000  # sums kept in memory before they are written: the rows of a row group, sorted by meter

_TYPES = {int(kind): kind.name.lower() for kind in RecordType}
_QUALITIES = {int(Quality.AVERAGED): "averaged", int(Quality.EXACT): "exact"}
_FLOWS = np.array([int(kind) for kind in RecordType if kind.is_flow], np.uint8)
_SLOT_STARTS = np.arange(SLOTS, dtype=np.int64) * SLOT_S


# Returns the joined blocks of the quarters from the first to before the last, in the order of meter and type.
Read: TypeAlias = Callable[[Quarter, Quarter], Blocks]


@dataclass(frozen=True, eq=False)
class Grids:
    """The microgrid of each meter."""

    ids: npt.NDArray[np.uint64]  # meter ids, ascending
    codes: npt.NDArray[np.int32]  # the microgrid of each, as an index of ``labels``
    labels: Sequence[str]  # their names

    @classmethod
    def of(cls, microgrids: Mapping[int, MicrogridId]) -> "Grids":
        """Return the microgrids of some meters."""
        labels = sorted(set(microgrids.values()))
        place = {label: code for code, label in enumerate(labels)}
        ids = sorted(microgrids)
        return cls(np.array(ids, np.uint64), np.array([place[microgrids[i]] for i in ids], np.int32), labels)

    def codes_of(self, meters: npt.NDArray[np.uint64]) -> npt.NDArray[np.int32]:
        """Return the codes of some meters' microgrids."""
        return self.codes[np.searchsorted(self.ids, meters)]


def quarters_at_a_time(series: int) -> int:
    """Return how many quarters to read at once, for so many pairs of a meter and a record type."""
    return max(1, BLOCKS_AT_A_TIME // max(1, series))


def slot_rows(read: Read, grids: Grids, first: Quarter, end: Quarter, length: int) -> Iterator[Rows]:
    """Yield the rows of ``SLOTS_TABLE`` of some quarters, ``length`` quarters at a time."""
    for begin, stop in cut(first, end, length):
        blocks = read(begin, stop)
        for low, high in cut(0, len(blocks), BLOCKS_AT_A_TIME):
            yield rows_of_slots(blocks.take(np.arange(low, high)), grids)


def rows_of_slots(blocks: Blocks, grids: Grids) -> Rows:
    """Return a row for each slot of some blocks that has a reading."""
    quality = blocks.quality.ravel()
    kept = slice(None) if (quality > 0).all() else np.flatnonzero(quality)
    starts = blocks.quarter.astype(np.int64)[:, np.newaxis] * QUARTER_S + _SLOT_STARTS
    conflict = np.zeros(len(quality), np.bool_)
    conflict[blocks.extras["row"] * SLOTS + blocks.extras["slot"]] = True
    values = blocks.values.ravel()[kept]
    is_flow = np.repeat(np.isin(blocks.record_type, _FLOWS), SLOTS)[kept]
    types = _types(blocks.record_type.astype(np.int32))
    return {
        "meter_id": np.repeat(blocks.meter, SLOTS)[kept],
        "microgrid": Coded(np.repeat(grids.codes_of(blocks.meter), SLOTS)[kept], grids.labels),
        "record_type": Coded(np.repeat(types.codes, SLOTS)[kept], types.labels),
        "start_utc": starts.ravel()[kept],
        "energy_milliwatt_hours": Nullable(values, is_flow),
        "level_milliwatt_hours": Nullable(values, ~is_flow),
        "quality": Coded((quality[kept] - int(Quality.AVERAGED)).astype(np.int32), tuple(_QUALITIES.values())),
        "conflict": conflict[kept],
    }


def sum_rows(
    read: Read,
    grids: Grids,
    first: Quarter,
    end: Quarter,
    length: int,
    resolution: Resolution,
    zone: ZoneInfo,
) -> Iterator[Rows]:
    """Yield the rows of ``SUMS_TABLE`` of some quarters, which begin and end with whole intervals."""
    by = intervals(resolution, first, end, zone)
    waiting: list[Sums] = []
    for begin, stop in cut(first, end, length):
        blocks = read(begin, stop)
        if len(blocks):
            waiting.append(sums_of(blocks, by))
        if sum(map(len, waiting)) >= ROWS_AT_A_TIME:
            merged = merge(waiting)
            # An interval is written when it is over, so that it has one row.
            done = merged.start < by.starts[by.index_of(np.array([stop]))]
            waiting = [merged.take(~done)]
            if done.any():
                yield rows_of_sums(merged.take(done), grids)
    if sum(map(len, waiting)):
        yield rows_of_sums(merge(waiting), grids)


def rows_of_sums(sums: Sums, grids: Grids) -> Rows:
    """Return a row for each of some sums."""
    is_flow = np.isin(sums.record_type, _FLOWS)
    return {
        "meter_id": sums.meter,
        "microgrid": Coded(grids.codes_of(sums.meter), grids.labels),
        "record_type": _types(sums.record_type.astype(np.int32)),
        "start_utc": sums.start,
        "energy_milliwatt_hours": Nullable(sums.total, is_flow),
        "last_level_milliwatt_hours": Nullable(sums.last, ~is_flow),
        "min_level_milliwatt_hours": Nullable(sums.lowest, ~is_flow),
        "max_level_milliwatt_hours": Nullable(sums.highest, ~is_flow),
        "exact_slots": sums.exact,
        "averaged_slots": sums.averaged,
        "missing_slots": sums.slots - sums.exact - sums.averaged,
        "conflict_slots": sums.conflicts,
    }


def _types(codes: npt.NDArray[np.int32]) -> Coded:
    """Return record types as text; a type that this release does not know is its number."""
    highest = int(codes.max(initial=0))
    labels = tuple(_TYPES.get(code, str(code)) for code in range(1, max(highest, max(_TYPES)) + 1))
    return Coded(codes - 1, labels)


QUARTERS_AT_A_TIME = 500_000  # most pairs of a meter and a quarter that are read at once

_SETTLED_QUALITIES = tuple(quality.name.lower() for quality in SettledQuality)
_NOT_SETTLED = 255
_NAMES = {
    Quantity.IMPORTED: "imported_milliwatt_hours",
    Quantity.SHARED_IN: "shared_in_milliwatt_hours",
    Quantity.EXPORTED: "exported_milliwatt_hours",
    Quantity.SHARED_OUT: "shared_out_milliwatt_hours",
}

Load = Callable[[Collection[MeterId], Quarter, Quarter], SettledQuarters]
"""Returns the newest settled quarters of some meters, from the first quarter to before the last."""


def settled_rows(
    load: Load,
    meters: Sequence[MeterId],
    grids: Grids,
    first: Quarter,
    end: Quarter,
    resolution: Resolution,
    zone: ZoneInfo,
    held: Sequence[HeldMeter] | None = None,
) -> Iterator[Rows]:
    """Yield the rows of ``SETTLED_TABLE`` of some meters and quarters, which begin and end with whole intervals.

    Args:
        load: Loads settled quarters.
        grids: Their microgrids.
        end: The quarter after the last.
        resolution: The interval of a row.
        zone: The time zone of local days.
        held: The periods that count; ``None``: all.
    """
    # Whole local days, so that no interval is in two reads.
    days = intervals(Resolution.DAY, first, end, zone).starts // QUARTER_S
    step = max(1, QUARTERS_AT_A_TIME // (100 * max(1, len(meters))))
    for begin in range(0, len(days) - 1, step):
        low, high = max(first, int(days[begin])), min(end, int(days[min(begin + step, len(days) - 1)]))
        settled = load(meters, low, high)
        rows = rows_of_settled(settled, grids, resolution, zone, held)
        if count_of(rows):
            yield rows


def rows_of_settled(
    settled: SettledQuarters,
    grids: Grids,
    resolution: Resolution,
    zone: ZoneInfo,
    held: Sequence[HeldMeter] | None = None,
) -> Rows:
    """Return a row for each meter and interval of some settled quarters; intervals without any have none."""
    quarters = settled.first + np.arange(settled.quality.shape[1])
    counts = settled.version > 0
    if held is not None:
        counts &= is_held(settled.meters[:, np.newaxis], quarters[np.newaxis, :], held)
    by = intervals(resolution, settled.first, settled.first + len(quarters), zone)
    index = by.index_of(quarters)
    begins = np.flatnonzero(np.diff(index, prepend=-1))
    present = np.add.reduceat(counts, begins, axis=1, dtype=np.int32)
    rows = present > 0
    meters = np.broadcast_to(settled.meters[:, np.newaxis], rows.shape)[rows]

    def added(quantity: Quantity) -> npt.NDArray[np.int64]:
        values = np.where(counts, settled.of(quantity), 0)
        return np.add.reduceat(values, begins, axis=1)[rows]

    worst = np.minimum.reduceat(np.where(counts, settled.quality, _NOT_SETTLED), begins, axis=1)
    return {
        "meter_id": meters,
        "microgrid": Coded(grids.codes_of(meters), grids.labels),
        "start_utc": np.broadcast_to(by.starts[index[begins]], rows.shape)[rows],
        **{name: added(quantity) for quantity, name in _NAMES.items()},
        "quality": Coded(worst[rows].astype(np.int32), _SETTLED_QUALITIES),
        "provisional": np.logical_or.reduceat(settled.provisional & counts, begins, axis=1)[rows],
        "version": np.maximum.reduceat(np.where(counts, settled.version, 0), begins, axis=1)[rows],
        "settled_quarters": present[rows],
    }


AT_ONCE = 10_000  # bills whose rows are in memory at once

_Cell = Callable[[Bill, int, BillLine], object]

_CELLS: dict[str, _Cell] = {
    "account": lambda bill, _, __: bill.account,
    "month": lambda bill, _, __: bill.month,
    "start_utc": lambda bill, _, __: bill.start * QUARTER_S,
    "end_utc": lambda bill, _, __: bill.end * QUARTER_S,
    "policy": lambda bill, _, __: bill.policy,
    "tariff": lambda bill, _, __: ", ".join(bill.tariff),
    "line": lambda _, number, __: number,
    "kind": lambda _, __, line: line.kind.value,
    "text": lambda _, __, line: line.text,
    "period": lambda _, __, line: line.period,
    "energy_milliwatt_hours": lambda _, __, line: line.energy,
    "rate_dollars_per_kilowatt_hour": lambda _, __, line: "" if line.rate is None else f"{line.rate:f}",
    "amount_dollars": lambda _, __, line: line.amount,
    "total_dollars": lambda bill, _, __: bill.total,
    "reason": lambda _, __, line: line.reason,
    "corrected_month": lambda _, __, line: line.month,
    "provisional_quarters": lambda bill, _, __: bill.provisional,
    "estimated_quarters": lambda bill, _, __: bill.estimated,
    "missing_quarters": lambda bill, _, __: bill.missing,
}
_TIMES = ("start_utc", "end_utc")


def bill_rows(bills: Sequence[Bill]) -> Iterator[Rows]:
    """Yield the rows of ``BILLS_TABLE`` of some bills, ``AT_ONCE`` bills at a time."""
    for begin in range(0, len(bills), AT_ONCE):
        lines = [(bill, n, line) for bill in bills[begin : begin + AT_ONCE] for n, line in enumerate(bill.lines, 1)]
        rows: dict[str, list[object]] = {name: [cell(*one) for one in lines] for name, cell in _CELLS.items()}
        yield rows | {name: np.array(rows[name], np.int64) for name in _TIMES}
