"""A microgrid's UTC day as the checks judge it: from quarter-hours of meters to use, generation and slots."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.records import RecordType
from commonwatt.model.units import QUARTER_S, SLOTS, Quarter
from commonwatt.settlement.settled import QUARTERS_A_DAY
from commonwatt.settlement.sharing import net_charge
from commonwatt.settlement.validation.checks import Slots, checked
from commonwatt.settlement.validation.day import Day, Finding, Limits
from commonwatt.town.town import Direction
from utility.corrections.members import Layout, Member, Series
from utility.corrections.outages import slots_in
from utility.readings.gaps import Interval

Energies = NDArray[np.int64]
Flags = NDArray[np.bool_]

_COLUMNS = QUARTERS_A_DAY + 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """A series' quarter-hours: the last one before the day, and the day's; 0 where unknown, (97)."""

    total: Energies  # energy of the quarter
    count: Energies  # slots with a reading
    least: Energies  # the least reading of a slot
    most: Energies  # the greatest one
    last: Energies  # the last reading

    @property
    def whole(self) -> Flags:
        """Which quarters have every reading."""
        return np.asarray(self.count == SLOTS)


_ZEROS = np.zeros(_COLUMNS, np.int64)
_NOTHING = Measured(total=_ZEROS, count=_ZEROS, least=_ZEROS, most=_ZEROS, last=_ZEROS)


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
class Judged:
    """The result of a microgrid's day."""

    findings: Sequence[Finding]  # what was found; the meter is the one that the place's use or generation stands under
    ordinary: Mapping[Series, int]  # energy of each judged series that had an ordinary day


def measured_of(rows: NDArray[np.int64], first: Quarter) -> dict[Series, Measured]:
    """Return the quarter-hours of a day by series.

    Args:
        rows: Meter's number, record type, quarter, total, slots, least, most and last reading, (k, 8).
    """
    found = {}
    if not len(rows):
        return {}
    series = rows[:, 0] * 256 + rows[:, 1]
    for one in np.unique(series).tolist():
        of = rows[series == one]
        columns = np.zeros((5, _COLUMNS), np.int64)
        columns[:, of[:, 2] - first + 1] = of[:, 3:].T
        total, count, least, most, last = columns
        found[divmod(one, 256)] = Measured(total=total, count=count, least=least, most=most, last=last)
    return found


def judged(members: Sequence[Member], layout: Layout, day: DayOf, limits: Limits) -> Judged:
    """Return what the checks find in a microgrid's day."""
    ids = {m.no: m.id for m in members}
    series, energy, known = _use_and_generation(layout, day)
    sent = [(m, kind) for m in members for kind in sorted(m.record_types) if RecordType(kind).is_flow]
    whole = _day(series, ids, energy, known, day, limits)
    found = checked(whole, _slots(sent, ids, day, limits), limits)
    return Judged(
        findings=found,
        ordinary={
            one: int(total)
            for one, total, ordinary in zip(series, whole.total, whole.ordinary, strict=True)
            if ordinary
        },
    )


def _use_and_generation(layout: Layout, day: DayOf) -> tuple[list[Series], Energies, Flags]:
    """Return the use and the generation of each place by quarter, and where they are known."""
    found: list[tuple[Series, Energies, Flags]] = []
    for meters in layout.places:
        into = [m for m in meters if m.direction is Direction.INCOMING]
        out = [m for m in meters if m.direction is Direction.OUTGOING]
        given, sun = (_flow(day, out, kind) for kind in (RecordType.THROUGH, RecordType.GENERATION))
        charge = _charge(day, [m for m in out if RecordType.STORED in m.record_types])
        if out and RecordType.GENERATION in out[-1].record_types:
            found.append(((out[-1].no, int(RecordType.GENERATION)), *sun))
        if into and RecordType.THROUGH in into[-1].record_types:
            taken = _flow(day, into, RecordType.THROUGH)
            # The incoming meter of a house with sun and battery reads nothing for days and then a lot, as the weather
            # is; its use is as steady as that of a house without, and is judged in place of the meter's readings.
            use = taken[0] + sun[0] - given[0] - charge[0]
            there = taken[1] & given[1] & sun[1] & charge[1]
            found.append(((into[-1].no, int(RecordType.THROUGH)), np.where(there, use, 0), there))
    nowhere = np.zeros((0, QUARTERS_A_DAY))
    return (
        [series for series, _, _ in found],
        np.stack([of for _, of, _ in found]) if found else nowhere.astype(np.int64),
        np.stack([there for _, _, there in found]) if found else nowhere.astype(np.bool_),
    )


def _flow(day: DayOf, meters: Sequence[Member], kind: RecordType) -> tuple[Energies, Flags]:
    """Return the energy of the meters of one direction of a place, of which one follows another at an exchange."""
    energy, known = np.zeros(QUARTERS_A_DAY, np.int64), np.ones(QUARTERS_A_DAY, np.bool_)
    for meter in meters:
        if kind in meter.record_types:
            of, there = day.measured.get((meter.no, int(kind)), _NOTHING), meter.in_place(_quarters(day))
            energy += np.where(of.whole[1:] & there, of.total[1:], 0)
            known &= of.whole[1:] | ~there
    return energy, known


def _charge(day: DayOf, meters: Sequence[Member]) -> tuple[Energies, Flags]:
    """Return what charged the battery; in the quarter of an exchange it is not known."""
    energy, known = np.zeros(QUARTERS_A_DAY, np.int64), np.ones(QUARTERS_A_DAY, np.bool_)
    for meter in meters:
        of = day.measured.get((meter.no, int(RecordType.STORED)), _NOTHING)
        there = meter.in_place(_quarters(day))
        both = of.whole[1:] & of.whole[:-1] & meter.in_place(_quarters(day) - 1)
        energy += np.where(both & there, net_charge(np.diff(of.last), day.loss_permille), 0)
        known &= both | ~there
    return energy, known


def _quarters(day: DayOf) -> Energies:
    return day.first + np.arange(QUARTERS_A_DAY)


def _day(
    series: Sequence[Series], ids: Mapping[int, int], energy: Energies, known: Flags, day: DayOf, limits: Limits
) -> Day:
    days = limits.reference_days
    before, usable = np.zeros((len(series), days), np.int64), np.zeros((len(series), days), np.bool_)
    for row, one in enumerate(series):
        past = list(day.before.get(one, ()))[-days:]
        if past:
            before[row, -len(past) :], usable[row, -len(past) :] = past, True
    return Day(
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


def _slots(members: Sequence[tuple[Member, int]], ids: Mapping[int, int], day: DayOf, limits: Limits) -> Slots:
    """Return what the meters sent, as it was sent."""
    sent = [(member.no, kind) for member, kind in members]
    rows = [day.measured.get(one, _NOTHING) for one in sent]
    shape = (len(sent), QUARTERS_A_DAY)
    counts = np.array([row.count[1:] for row in rows], np.int64).reshape(shape)
    off = np.array(
        [
            slots_in(day.off.get(number, ()), day.first * QUARTER_S, QUARTERS_A_DAY * SLOTS).reshape(-1, SLOTS).sum(1)
            for number, _ in sent
        ],
        np.int64,
    ).reshape(shape)
    quarters = _quarters(day)
    began = np.array([quarters >= day.began.get(one, quarters[-1] + 1) for one in sent], np.bool_).reshape(shape)
    expected = began & np.array([member.in_place(quarters) for member, _ in members], np.bool_).reshape(shape)
    registers = [_register(day, one) for one in sent]
    total = np.array([row.total[1:] for row in rows], np.int64).reshape(shape)
    return Slots(
        day=_day(sent, ids, np.where(counts == SLOTS, total, 0), counts == SLOTS, day, limits),
        least=np.array([row.least[1:] for row in rows], np.int64).reshape(shape),
        most=np.array([row.most[1:] for row in rows], np.int64).reshape(shape),
        missing=np.where(expected, np.maximum(SLOTS - counts - off, 0), 0),
        register=np.array([difference for difference, _ in registers], np.int64),
        has_register=np.array([known for _, known in registers], np.bool_),
    )


def _register(day: DayOf, series: Series) -> tuple[int, bool]:
    """Return the difference of a meter's register over the day, and whether it is known."""
    of = day.measured.get((series[0], int(RecordType.REGISTER)))
    if of is None or series[1] != RecordType.THROUGH or not (of.whole[0] and of.whole[-1]):
        return 0, False
    difference = int(of.last[-1] - of.last[0])
    return difference, difference >= 0
