"""A microgrid's UTC day as the checks judge it: members, outages, and their quarter-hours, slot by slot."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.records import EventRecord, RecordType, State
from commonwatt.model.units import QUARTER_S, SLOT_S, SLOTS, EpochSeconds, MeterId, MilliwattHours, Quarter
from commonwatt.town.town import Direction, Function
from utility.corrections.estimates import SeriesRole
from utility.corrections.validation import CheckLimits, DaySlots, SeriesDay, SuspectReadings, checked
from utility.energy.quarters import QUARTERS_A_DAY
from utility.readings.flows import Adding, EnergyLine, Flags, Flows, Measured, Numbers
from utility.readings.gaps import Interval, off_times

Series = tuple[int, int]  # a meter's number in the database, and a record type


@dataclass(frozen=True, kw_only=True)
class SeriesMeter:
    """A meter of a microgrid."""

    no: int  # its number in the database
    id: MeterId  # its id
    location: str  # its place
    function: Function  # the kind of place behind it
    direction: Direction  # the direction it measures
    record_types: frozenset[int]  # its record types
    capacity: MilliwattHours | None  # capacity of the battery behind it, milliwatt-hours; ``None``: no battery
    # The largest plausible reading of a slot by record type, milliwatt-hours.
    limits: Mapping[int, MilliwattHours] = field(default_factory=dict)
    since: Quarter | None = None  # its first quarter in this place; ``None``: from the beginning
    until: Quarter | None = None  # the quarter after its last; ``None``: it is still there

    def in_place(self, quarters: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return in which quarters it was in its place: only then its energy is a part of the microgrid's."""
        after = quarters >= (self.since or 0)
        return after if self.until is None else after & (quarters < self.until)

    @property
    def place(self) -> tuple[str, int]:
        """Its place: the meters of another maker at one location are places of their own."""
        is_other = self.function in (Function.FOREIGN, Function.ADAPTED)
        return self.location, self.no if is_other else 0


@dataclass(frozen=True, kw_only=True)
class SeriesLayout:
    """The series of a microgrid."""

    series: tuple[Series, ...]  # the series that settlement needs
    role: tuple[SeriesRole, ...]  # what each measures
    place: tuple[int, ...]  # the number of its place
    places: tuple[tuple[SeriesMeter, ...], ...]  # the meters of each place
    boundary: tuple[SeriesMeter, SeriesMeter] | None  # the boundary's meters, by direction; both or none


def members_in(members: Sequence[SeriesMeter], first: Quarter, until: Quarter) -> list[SeriesMeter]:
    """Return the members that were in their places in a quarter from ``first`` to before ``until``."""
    return [m for m in members if (m.since or 0) < until and (m.until is None or first < m.until)]


def layout_of(members: Sequence[SeriesMeter]) -> SeriesLayout:
    """Return the series of a microgrid.

    Every meter's energy counts. Generation and level count where a battery has no incoming meter, whose intake follows
    from them.
    """
    ends = {m.direction: m for m in members if m.function is Function.BOUNDARY}
    inside = [m for m in members if m.function is not Function.BOUNDARY]
    names = sorted({m.place for m in inside})
    places = tuple(tuple(m for m in inside if m.place == name) for name in names)
    roles: list[tuple[Series, SeriesRole, int]] = []
    for number, meters in enumerate(places):
        is_metered_in = any(m.direction is Direction.INCOMING for m in meters)
        for m in meters:
            role = SeriesRole.INCOMING if m.direction is Direction.INCOMING else SeriesRole.OUTGOING
            roles.append(((m.no, int(RecordType.THROUGH)), role, number))
            if role is SeriesRole.OUTGOING and not is_metered_in:
                for kind, r in ((RecordType.GENERATION, SeriesRole.GENERATION), (RecordType.STORED, SeriesRole.LEVEL)):
                    if kind in m.record_types:
                        roles.append(((m.no, int(kind)), r, number))
    return SeriesLayout(
        series=tuple(series for series, _, _ in roles),
        role=tuple(role for _, role, _ in roles),
        place=tuple(place for _, _, place in roles),
        places=places,
        boundary=(ends[Direction.INCOMING], ends[Direction.OUTGOING]) if len(ends) == len(Direction) else None,
    )


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
    outages = {number: sorted(off_times(pairs) + off_grid_times(pairs)) for number, pairs in events.items()}
    outages[0] = sorted(interval for number in boundary for interval in outages.get(number, []))
    return outages


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
    days: set[date] = set()
    for start, until in intervals:
        time, last = max(start, begin), min(until, end)
        while time <= last and start < end and until >= begin:
            days.add(datetime.fromtimestamp(time, zone).date())
            time += _DAY_S // 2
        if start < end and until >= begin:
            days.add(datetime.fromtimestamp(last, zone).date())
    return days


_COLUMNS = QUARTERS_A_DAY + 1  # the last quarter-hour before the day, and the day's


@dataclass(frozen=True, kw_only=True, eq=False)
class DayOf:
    """What the store knows of a microgrid's day."""

    first: Quarter  # the day's first quarter
    measured: Mapping[Series, Measured]  # by series; absent: no reading
    # The first quarter of each series that ever sent a reading.
    began: Mapping[Series, Quarter] = field(default_factory=dict)
    # Times of outages by meter's number, and under 0 of the whole microgrid.
    outages: Mapping[int, Sequence[Interval]] = field(default_factory=dict)
    off: Mapping[int, Sequence[Interval]] = field(default_factory=dict)  # times when a meter was off, by its number
    # Energy of checked days before this one, oldest first, by series.
    before: Mapping[Series, Sequence[int]] = field(default_factory=dict)
    loss_permille: int = 0  # part of a battery's charge that is lost, thousandths


@dataclass(frozen=True, kw_only=True)
class JudgedDay:
    """The result of a microgrid's day."""

    findings: Sequence[
        SuspectReadings
    ]  # what was found; the meter is the one that the place's use or generation stands under
    ordinary: Mapping[Series, int]  # energy of each judged series that had an ordinary day


def judged(members: Sequence[SeriesMeter], layout: SeriesLayout, day: DayOf, limits: CheckLimits) -> JudgedDay:
    """Return what the checks find in a microgrid's day."""
    ids = {m.no: m.id for m in members}
    series, energy, known = _use_and_generation(layout, day)
    sent = [(m, kind) for m in members for kind in sorted(m.record_types) if RecordType(kind).is_flow]
    whole = _day(series, ids, energy, known, day, limits)
    findings = checked(whole, _slots(sent, ids, day, limits), limits)
    return JudgedDay(
        findings=findings,
        ordinary={
            key: int(total)
            for key, total, ordinary in zip(series, whole.total, whole.ordinary, strict=True)
            if ordinary
        },
    )


def _use_and_generation(layout: SeriesLayout, day: DayOf) -> tuple[list[Series], Numbers, Flags]:
    """Return the use and the generation of each place by quarter, and where they are known."""
    lines: list[tuple[Series, EnergyLine]] = []
    for meters in layout.places:
        # Of the meters of one direction one follows another at an exchange, in whose quarter no charge is known.
        adding = Adding(day.measured, _COLUMNS, day.loss_permille)
        for m in meters:
            adding.add(m.no, m.direction, m.record_types, m.in_place(day.first - 1 + np.arange(_COLUMNS)))
        flows = Flows(first=day.first, **adding.lines)
        into = [m for m in meters if m.direction is Direction.INCOMING]
        out = [m for m in meters if m.direction is Direction.OUTGOING]
        if out and RecordType.GENERATION in out[-1].record_types:
            lines.append(((out[-1].no, int(RecordType.GENERATION)), flows.sun))
        if into and RecordType.THROUGH in into[-1].record_types:
            # The incoming meter of a house with sun and battery reads nothing for days and then a lot, as the weather
            # is; its use is as steady as that of a house without, and is judged in place of the meter's readings.
            lines.append(((into[-1].no, int(RecordType.THROUGH)), flows.used))
    known = np.array([line.slots == line.expected for _, line in lines], np.bool_).reshape(-1, QUARTERS_A_DAY)
    energy = np.array([line.energy for _, line in lines], np.int64).reshape(-1, QUARTERS_A_DAY)
    return [series for series, _ in lines], energy * known, known


def _day(
    series: Sequence[Series], ids: Mapping[int, int], energy: Numbers, known: Flags, day: DayOf, limits: CheckLimits
) -> SeriesDay:
    days = limits.reference_days
    before, usable = np.zeros((len(series), days), np.int64), np.zeros((len(series), days), np.bool_)
    for row, key in enumerate(series):
        past = list(day.before.get(key, ()))[-days:]
        if past:
            before[row, -len(past) :], usable[row, -len(past) :] = past, True
    return SeriesDay(
        meter=np.array([ids[number] for number, _ in series], np.uint64),
        record_type=np.array([kind for _, kind in series], np.uint8),
        first=day.first,
        energy=energy,
        known=known,
        outage=_by_quarter([number for number, _ in series], day),
        before=before,
        usable=usable,
    )


def _by_quarter(numbers: Iterable[int], day: DayOf) -> Flags:
    """Return in which quarters of the day each meter had an outage for any time."""
    rows = [
        slots_in([*day.outages.get(0, ()), *day.outages.get(number, ())], day.first * QUARTER_S, QUARTERS_A_DAY * SLOTS)
        for number in numbers
    ]
    return np.asarray(np.array(rows, np.bool_).reshape(len(rows), QUARTERS_A_DAY, SLOTS).any(axis=2))


def _slots(
    members: Sequence[tuple[SeriesMeter, int]], ids: Mapping[int, int], day: DayOf, limits: CheckLimits
) -> DaySlots:
    """Return what the meters sent, as it was sent."""
    sent = [(member.no, kind) for member, kind in members]
    rows = [day.measured.get(key, Measured.nothing(_COLUMNS)) for key in sent]
    shape = (len(sent), QUARTERS_A_DAY)
    counts = np.array([row.slots[1:] for row in rows], np.int64).reshape(shape)
    off = np.array(
        [
            slots_in(day.off.get(number, ()), day.first * QUARTER_S, QUARTERS_A_DAY * SLOTS).reshape(-1, SLOTS).sum(1)
            for number, _ in sent
        ],
        np.int64,
    ).reshape(shape)
    quarters = day.first + np.arange(QUARTERS_A_DAY)
    began = np.array([quarters >= day.began.get(key, quarters[-1] + 1) for key in sent], np.bool_).reshape(shape)
    expected = began & np.array([member.in_place(quarters) for member, _ in members], np.bool_).reshape(shape)
    registers = [_register(day, key) for key in sent]
    total = np.array([row.total[1:] for row in rows], np.int64).reshape(shape)
    return DaySlots(
        day=_day(sent, ids, np.where(counts == SLOTS, total, 0), counts == SLOTS, day, limits),
        least=np.array([row.least[1:] for row in rows], np.int64).reshape(shape),
        most=np.array([row.most[1:] for row in rows], np.int64).reshape(shape),
        missing=np.where(expected, np.maximum(SLOTS - counts - off, 0), 0),
        register=np.array([difference for difference, _ in registers], np.int64),
        has_register=np.array([known for _, known in registers], np.bool_),
    )


def _register(day: DayOf, series: Series) -> tuple[int, bool]:
    """Return the difference of a meter's register over the day, and whether it is known."""
    register = day.measured.get((series[0], int(RecordType.REGISTER)))
    if register is None or series[1] != RecordType.THROUGH or not (register.whole[0] and register.whole[-1]):
        return 0, False
    difference = int(register.last[-1] - register.last[0])
    return difference, difference >= 0
