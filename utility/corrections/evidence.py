"""The window of a microgrid's readings around its gaps, and the proposals from its estimates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.blocks import Blocks, Quality, flags_of, make_blocks
from commonwatt.model.records import RecordType
from commonwatt.model.units import QUARTER_S, SLOTS, Quarter
from utility.corrections.checked_days import Series, SeriesLayout, SeriesMeter, slots_in
from utility.corrections.estimates import Draft, Method, ReadingWindow, RegisterDifference
from utility.corrections.validation import runs
from utility.readings.gaps import Interval

Energies = NDArray[np.int64]
Flags = NDArray[np.bool_]

Gap = tuple[int, int, Quarter]  # (number of the meter, record type, quarter)
NEAR = 8  # quarters between two gaps that are estimated together
MAX_QUARTERS = 4 * 96  # longest window: of a longer gap each part is estimated by itself
MAX_CELLS = 3_000_000  # most slots of all series of a window, for the memory


@dataclass(frozen=True, kw_only=True, eq=False)
class KnownWindow:
    """What the store knows of a window."""

    blocks: Blocks  # joined readings of the members, registers included
    # Times of outages by meter's number, and under 0 of the whole microgrid.
    outages: Mapping[int, Sequence[Interval]] = field(default_factory=dict)
    # Energy of the window's quarters on like days, and where it is known, by series.
    typical: Mapping[Series, tuple[Energies, Flags]] = field(default_factory=dict)
    loss_permille: int = 0  # part of a battery's charge that is lost, thousandths


def spans(quarters: Sequence[Quarter], series: int) -> list[tuple[Quarter, Quarter]]:
    """Return the (first quarter, quarter after the last) of windows around gaps, with a quarter on each side.

    Args:
        quarters: Quarters with gaps, ascending.
        series: Number of the microgrid's series.
    """
    most = max(1, min(MAX_QUARTERS, MAX_CELLS // (SLOTS * max(1, series))) - 2)
    found: list[tuple[Quarter, Quarter]] = []
    for quarter in quarters:
        if found and quarter < found[-1][1] + NEAR and quarter - found[-1][0] < most:
            found[-1] = found[-1][0], quarter + 1
        else:
            found.append((quarter, quarter + 1))
    return [(first - 1, until + 1) for first, until in found]


def window_of(
    layout: SeriesLayout, span: tuple[Quarter, Quarter], gaps: Mapping[Gap, int], known: KnownWindow
) -> ReadingWindow:
    """Return the window of a span.

    Args:
        layout: The microgrid's series, at least one.
        span: The first quarter, and the quarter after the last.
        gaps: Masks of the slots to estimate.
    """
    first, until = span
    readings = _Readings(known.blocks, first, until)
    ids = {m.no: m for meters in layout.places for m in meters}
    rows = [readings.of(ids[number], kind) for number, kind in layout.series]
    slots = (until - first) * SLOTS
    values, there = np.stack([of for of, _ in rows]), np.stack([flags for _, flags in rows])
    for row, (number, kind) in enumerate(layout.series):
        if RecordType(kind).is_flow:
            # A meter that is not in its place has no part in its microgrid.
            out = np.repeat(~ids[number].in_place(np.arange(first, until)), SLOTS)
            values[row, out], there[row, out] = 0, True
    wanted = np.zeros(there.shape, np.bool_)
    for (number, kind, quarter), mask in gaps.items():
        if first <= quarter < until and (number, kind) in layout.series:
            row, at = layout.series.index((number, kind)), (quarter - first) * SLOTS
            wanted[row, at : at + SLOTS] = flags_of(mask) & ~there[row, at : at + SLOTS]
    boundary, passes = _boundary(layout, readings)
    nothing = np.zeros(until - first, np.int64), np.zeros(until - first, np.bool_)
    means = [known.typical.get(series, nothing) for series in layout.series]
    return ReadingWindow(
        first=first,
        role=layout.role,
        place=layout.place,
        values=values,
        known=there,
        outage=np.stack([_outage(known, number, first, slots) for number, _ in layout.series]),
        wanted=wanted,
        boundary=boundary,
        passes=passes,
        typical=np.stack([mean for mean, _ in means]),
        is_typical=np.stack([found for _, found in means]),
        registers=[one for row in range(len(rows)) for one in _registered(layout, row, ids, readings, there[row])],
        loss_permille=known.loss_permille,
    )


def proposals(layout: SeriesLayout, draft: Draft) -> list[tuple[Series, Method, Quarter, Energies, Flags]]:
    """Return (series, method, quarter, values, slots) for each block and method of the estimates."""
    found = []
    for row, series in enumerate(layout.series):
        method = draft.method[row].reshape(-1, SLOTS)
        values = draft.values[row].reshape(-1, SLOTS)
        for at in np.flatnonzero(method.any(axis=1)).tolist():
            quarter = draft.window.first + at
            found += [
                (series, Method(number), quarter, values[at], method[at] == number)
                for number in sorted(set(method[at].tolist()) - {0})
            ]
    return found


def as_blocks(
    members: Mapping[int, SeriesMeter], made: Sequence[tuple[Series, Method, Quarter, Energies, Flags]]
) -> Blocks:
    """Return proposals as blocks, in their order."""
    keys = [(members[number].id, kind, quarter) for (number, kind), _, quarter, _, _ in made]
    values = [values for _, _, _, values, _ in made]
    quality = [np.where(slots, np.uint8(Quality.EXACT), np.uint8(0)) for _, _, _, _, slots in made]
    return make_blocks(keys, np.array(values), np.array(quality))


class _Readings:
    """The readings of meters in a window, by slot."""

    def __init__(self, blocks: Blocks, first: Quarter, until: Quarter) -> None:
        self._blocks, self._first, self._quarters = blocks, first, until - first
        self._rows: dict[tuple[int, int], list[int]] = {}
        for row, (meter, kind, quarter) in enumerate(blocks.keys()):
            if first <= quarter < until:
                self._rows.setdefault((meter, kind), []).append(row)

    @property
    def nothing(self) -> tuple[Energies, Flags]:
        """The slots of a meter that does not exist."""
        slots = self._quarters * SLOTS
        return np.zeros(slots, np.int64), np.zeros(slots, np.bool_)

    def of(self, member: SeriesMeter, kind: int) -> tuple[Energies, Flags]:
        """Return the values of a meter's slots, and which are there."""
        values = np.zeros((self._quarters, SLOTS), np.int64)
        there = np.zeros((self._quarters, SLOTS), np.bool_)
        rows = self._rows.get((member.id, kind), [])
        places = [int(self._blocks.quarter[row]) - self._first for row in rows]
        values[places], there[places] = self._blocks.values[rows], self._blocks.quality[rows] > 0
        return values.ravel(), there.ravel()


def _boundary(layout: SeriesLayout, readings: _Readings) -> tuple[Energies, Flags]:
    through = int(RecordType.THROUGH)
    if layout.boundary is None:
        return readings.nothing
    (into, into_there), (out, out_there) = (readings.of(member, through) for member in layout.boundary)
    return into - out, into_there & out_there


def _outage(known: KnownWindow, number: int, first: Quarter, slots: int) -> Flags:
    begin = first * QUARTER_S
    return slots_in([*known.outages.get(0, ()), *known.outages.get(number, ())], begin, slots)


def _registered(
    layout: SeriesLayout, row: int, members: Mapping[int, SeriesMeter], readings: _Readings, there: Flags
) -> list[RegisterDifference]:
    """Return what the register of a series' meter tells of its gaps."""
    number, kind = layout.series[row]
    if kind != RecordType.THROUGH or RecordType.REGISTER not in members[number].record_types:
        return []
    values, known = readings.of(members[number], int(RecordType.REGISTER))
    found = []
    for _, start, end in runs(~there[None]):
        before, after = np.flatnonzero(known[:start])[-1:], end - 1 + np.flatnonzero(known[end - 1 :])[:1]
        points = [*before.tolist(), *(start + np.flatnonzero(known[start : end - 1])).tolist(), *after.tolist()]
        for first, last in pairwise(points):
            if (difference := int(values[last] - values[first])) >= 0:
                found.append(RegisterDifference(row=row, start=first + 1, end=last + 1, energy=difference))
    return found
