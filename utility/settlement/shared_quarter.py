"""A quarter-hour of one microgrid's batteries: from blocks and events to what each gave and received (C2, pure).

The division is that of ``commonwatt.settlement.sharing``; this module only makes its arrays.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.blocks import Blocks
from commonwatt.model.ids import MeterId
from commonwatt.model.records import EventRecord, RecordType, State
from commonwatt.model.units import QUARTER_S, SLOT_S, SLOTS, MicrogridId, MilliwattHours, Quarter
from commonwatt.settlement.sharing import BatteryReadings, shared
from commonwatt.town.town import Direction, Function

_Row = NDArray[np.int64]
_Flags = NDArray[np.bool_]
_Key = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class MeterEntry:
    """A meter of the microgrid, as sharing sees it."""

    no: int  # its number in the database
    id: int  # its id
    location: str  # its place
    function: Function  # the kind of place behind it
    direction: Direction  # the direction it measures
    capacity: MilliwattHours | None  # capacity of the battery behind it, milliwatt-hours; ``None``: no battery
    start: Quarter | None = None  # its first quarter; ``None``: from the beginning
    end: Quarter | None = None  # the quarter after its last; ``None``: it is still there

    def is_there(self, quarter: Quarter) -> bool:
        """Return whether it is at its place in a quarter."""
        return (self.start or 0) <= quarter and (self.end is None or quarter < self.end)


@dataclass(frozen=True, kw_only=True)
class Battery:
    """A battery with the meters that tell what it gave and received."""

    meter: MeterEntry  # its outgoing meter
    incoming: MeterEntry | None  # the incoming meter of its place; ``None``: it has none
    behind: tuple[MeterEntry, ...]  # the incoming meters of the places behind a building or the farm


@dataclass(frozen=True, kw_only=True)
class SharedQuarter:
    """What the batteries of a microgrid gave and received in a quarter-hour, milliwatt-hours, by meter number."""

    given: Mapping[int, MilliwattHours]  # by meter number, where not 0
    received: Mapping[int, MilliwattHours]  # by meter number, where not 0
    complete: bool  # whether every reading that it needs was there


@dataclass(frozen=True, kw_only=True)
class Shared:
    """What a battery gave and received by sharing in a quarter-hour."""

    quarter: Quarter  # the quarter-hour
    meter: MeterId  # the battery's outgoing meter
    place: tuple[MicrogridId, str]  # where it is
    given: MilliwattHours  # to other batteries
    received: MilliwattHours  # from other batteries


NOTHING = SharedQuarter(given={}, received={}, complete=True)  # nothing was shared: no battery had the command


def batteries_of(meters: Sequence[MeterEntry]) -> list[Battery]:
    """Return the batteries of a microgrid."""
    users = [m for m in meters if m.capacity is None and m.direction is Direction.INCOMING]
    users = [m for m in users if m.function is not Function.BOUNDARY]
    found = []
    for meter in meters:
        if meter.capacity is None or meter.direction is not Direction.OUTGOING:
            continue
        own = next((user for user in users if user.location == meter.location), None)
        behind: tuple[MeterEntry, ...] = ()
        if meter.function is Function.SOLAR_FARM:
            behind = tuple(users)
        elif meter.function is Function.BUILDING:
            behind = tuple(user for user in users if user.location.startswith(f"{meter.location} "))
        found.append(Battery(meter=meter, incoming=own, behind=behind))
    return found


def sharing_slots(events: Iterable[tuple[int, EventRecord]], first: Quarter, quarters: int = 1) -> _Flags:
    """Return in which slots of some quarters a meter had the command to share, at the slot's begin or end.

    Args:
        events: (log generation, event) of the meter: those of the time, the last one before and the first one after.
        first: The first quarter.
        quarters: How many there are.
    """
    ordered = sorted(events, key=lambda item: (item[1].time, item[0], item[1].record_id))
    slots, begin = quarters * SLOTS, first * QUARTER_S
    edges = begin + SLOT_S * np.arange(slots + 1)
    at = np.zeros(slots + 1, np.bool_)
    for _, event in ordered:
        at[edges >= event.time] = bool(event.new_state & State.SHARING)
    changed = [event.time for _, event in ordered if event.new_state & State.SHARING]
    within = np.zeros(slots, np.bool_)
    for time in changed:
        slot = (time - begin) // SLOT_S
        if 0 <= slot < slots:
            within[slot] = True
    return at[:-1] | at[1:] | within


def shared_in(
    batteries: Sequence[Battery],
    sharing: Mapping[int, _Flags],
    blocks: Blocks,
    quarter: Quarter,
    loss_permille: int,
) -> SharedQuarter:
    """Return what a microgrid's batteries shared in a quarter.

    A battery that lacks a reading in a slot gives and receives nothing in it, and the quarter is not complete.

    Args:
        batteries: The microgrid's batteries.
        sharing: By meter number, the slots in which it had the command to share; absent: in none.
        blocks: The microgrid's blocks of the quarter and, for the levels before, of the quarter before.
        loss_permille: Part of a battery's charge that is lost, thousandths.
    """
    rows = _Rows(blocks, quarter)
    columns = [_Column(battery, rows) for battery in batteries]
    none = np.zeros(SLOTS, np.bool_)
    there = np.stack([column.there for column in columns], axis=1)
    found = shared(
        BatteryReadings(
            sharing=np.stack([sharing.get(b.meter.no, none) for b in batteries], axis=1) & there,
            metered_in=np.array([b.incoming is not None for b in batteries]),
            outgoing=_stacked(columns, "outgoing") * there,
            incoming=_stacked(columns, "incoming") * there,
            generation=_stacked(columns, "generation") * there,
            capacity=np.array([b.meter.capacity or 0 for b in batteries], np.int64),
            before=_stacked(columns, "before") * there,
            after=_stacked(columns, "after") * there,
            behind=_stacked(columns, "behind") * there,
            loss_permille=loss_permille,
        )
    )
    return SharedQuarter(
        given=_by_meter(batteries, found.given),
        received=_by_meter(batteries, found.received),
        complete=bool(there.all()),
    )


class _Rows:
    """The values of blocks by meter id, type and quarter."""

    def __init__(self, blocks: Blocks, quarter: Quarter) -> None:
        self._blocks = blocks
        self._quarter = quarter
        self._rows: dict[_Key, int] = {blocks.key(row): row for row in range(len(blocks))}

    def get(self, meter: MeterEntry, kind: RecordType, back: int = 0) -> tuple[_Row, _Flags]:
        """Return the values of a meter's quarter, or of one ``back`` quarters before, and which are there."""
        row = self._rows.get((meter.id, int(kind), self._quarter - back))
        if row is None:
            return np.zeros(SLOTS, np.int64), np.zeros(SLOTS, np.bool_)
        there = self._blocks.quality[row] > 0
        return np.where(there, self._blocks.values[row], 0), there


class _Column:
    """The readings of one battery in a quarter."""

    def __init__(self, battery: Battery, rows: _Rows) -> None:
        self.outgoing, out_there = rows.get(battery.meter, RecordType.THROUGH)
        self.generation, sun_there = rows.get(battery.meter, RecordType.GENERATION)
        self.after, after_there = rows.get(battery.meter, RecordType.STORED)
        last, last_there = rows.get(battery.meter, RecordType.STORED, back=1)
        self.before = np.concatenate([last[-1:], self.after[:-1]])
        before_there = np.concatenate([last_there[-1:], after_there[:-1]])
        self.incoming = np.zeros(SLOTS, np.int64)
        self.behind = np.zeros(SLOTS, np.int64)
        self.there = out_there & sun_there & after_there & before_there
        if battery.incoming is not None:
            self.incoming, in_there = rows.get(battery.incoming, RecordType.THROUGH)
            self.there = self.there & in_there
        for meter in battery.behind:
            taken, taken_there = rows.get(meter, RecordType.THROUGH)
            self.behind = self.behind + taken
            self.there = self.there & taken_there


def _stacked(columns: Sequence[_Column], name: str) -> _Row:
    return np.stack([getattr(column, name) for column in columns], axis=1)


def _by_meter(batteries: Sequence[Battery], energies: _Row) -> dict[int, MilliwattHours]:
    sums = energies.sum(axis=0).tolist()
    return {battery.meter.no: energy for battery, energy in zip(batteries, sums, strict=True) if energy}
