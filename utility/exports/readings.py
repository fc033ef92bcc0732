"""Readings as rows: from packed blocks to columns, without an object for each reading or block."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from commonwatt.model.blocks import Blocks, Quality
from commonwatt.model.records import RecordType
from commonwatt.model.units import QUARTER_S, SLOT_S, SLOTS, MicrogridId, Quarter
from utility.database.numbers import Column as Nullable
from utility.exports.columns import Coded, Rows
from utility.exports.resolutions import Resolution, cut, intervals
from utility.exports.sums import Sums, merge, sums_of

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
