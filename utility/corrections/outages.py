"""When a meter was off or its microgrid an island: no day to compare with, and no end of a line."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.records import EventRecord, State
from commonwatt.model.units import SLOT_S, EpochSeconds
from utility.readings.gaps import Interval, off_times

_FOR_EVER = 2**40
_DAY_S = 86_400

Events = Mapping[int, Sequence[tuple[int, EventRecord]]]  # (log generation, event) by meter number


def off_grid_times(events: Iterable[tuple[int, EventRecord]]) -> list[Interval]:
    """Return the times when a meter was off the grid, in order, from its (log generation, event) pairs."""
    result: list[Interval] = []
    since: EpochSeconds | None = None
    in_order = sorted(events, key=lambda item: (item[1].time, item[0], item[1].record_id))
    for place, (_, event) in enumerate(in_order):
        if place == 0 and event.previous_state & State.OFF_GRID:
            since = 0
        if event.new_state & State.OFF_GRID:
            since = event.time if since is None else since
        elif since is not None:
            result.append((since, event.time))
            since = None
    if since is not None:
        result.append((since, _FOR_EVER))
    return result


def outages_of(events: Events, boundary: Iterable[int]) -> dict[int, list[Interval]]:
    """Return the outages of each meter with events, and under 0 those of the whole microgrid.

    A meter's are its times off and off the grid; the microgrid's are those of its boundary's meters.
    """
    found = {number: sorted(off_times(of) + off_grid_times(of)) for number, of in events.items()}
    found[0] = sorted(interval for number in boundary for interval in found.get(number, []))
    return found


def slots_in(intervals: Sequence[Interval], begin: EpochSeconds, slots: int) -> NDArray[np.bool_]:
    """Return which slots from ``begin`` on are in one of the intervals for any time."""
    flags = np.zeros(slots, np.bool_)
    for start, end in intervals:
        first = (start - begin) // SLOT_S
        last = -(-(end - begin) // SLOT_S)
        flags[min(max(first, 0), slots) : max(last, 0)] = True
    return flags


def days_in(intervals: Sequence[Interval], begin: EpochSeconds, end: EpochSeconds, zone: ZoneInfo) -> set[date]:
    """Return the local days within ``[begin, end)`` that one of the intervals touches."""
    found: set[date] = set()
    for start, until in intervals:
        time, last = max(start, begin), min(until, end)
        while time <= last and start < end and until >= begin:
            found.add(datetime.fromtimestamp(time, zone).date())
            time += _DAY_S // 2
        if start < end and until >= begin:
            found.add(datetime.fromtimestamp(last, zone).date())
    return found
