"""Usage by month: computed from what is due of settled days, readings and events, and stored as rows (U6)."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import groupby
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, func, select

from commonwatt.model.records import RecordType, State
from commonwatt.model.units import QUARTER_S, EpochSeconds, MeterId, Quarter
from commonwatt.town.town import Function
from utility.database.database import upsert
from utility.database.engines import Lock, take
from utility.database.town_zone import zone_of
from utility.energy.quarters import QUARTERS_A_DAY
from utility.jobs.store import MarkedDay, mark
from utility.jobs.tables import settled_day, usage_due
from utility.readings.store.gaps import sound_events
from utility.readings.store.parts import chunks
from utility.readings.store.reads import numbers_of
from utility.readings.store.retention import kept_from
from utility.readings.tables import compacted, event
from utility.registry.accounts import Installed
from utility.registry.layout import Day
from utility.registry.tables import controller
from utility.settlement.store.readings import Owner, owners
from utility.settlement.store.settled import load_settled, settled_of_day
from utility.statistics.months import Month, MonthColumns, columns_of, month_text, months_of_day
from utility.statistics.packed import packed, unpacked
from utility.statistics.series import (
    UNKNOWN,
    BatteryDays,
    ClassDay,
    added,
    aligned,
    class_month,
    days_from,
    generated_by,
    no_day,
    no_days,
)
from utility.statistics.tables import usage_batteries, usage_day, usage_month
from utility.statistics.usage import (
    MICROGRID,
    QUANTITIES,
    BitChange,
    MonthUsage,
    UsageStretch,
    seconds_on,
    stretches_of,
    usage_of,
)


def mark_settled(connection: Connection, first: Day, last: Day) -> None:
    """Mark every settled day from ``first`` to ``last``."""
    c = settled_day.c
    settled = connection.execute(select(c.day, c.owner_no).where(c.day.between(first, last)))
    mark(connection, usage_due, [(row.day, row.owner_no) for row in settled])


def oldest_due(connection: Connection) -> Day | None:
    """Return the oldest marked day; ``None``: nothing is marked."""
    return connection.execute(select(func.min(usage_due.c.day))).scalar()


def due_usage(connection: Connection, until: Day) -> list[MarkedDay]:
    """Return what is marked of the days before ``until``, in order."""
    c = usage_due.c
    statement = select(usage_due).where(c.day < until).order_by(c.day, c.owner_no)
    return [MarkedDay(**row) for row in connection.execute(statement).mappings()]


LOOK_BACK_S = 31 * 86_400  # a reduction or an outage that began longer ago, and changed nothing since, is not seen

LEAST_PERCENT = 98  # batteries of a class that have a reading, with which its sun and level count as known
_STORED, _GENERATION = int(RecordType.STORED), int(RecordType.GENERATION)


def class_days(
    connection: Connection, day: Day, owners: Mapping[int, Owner], class_of: Mapping[int, int]
) -> dict[int, ClassDay]:
    """Return the settled quarter-hours of each class of microgrids on a day, without generation and levels.

    Args:
        day: The day of UTC.
        owners: All microgrids, by number.
        class_of: The number of each microgrid's class, by the microgrid's number.
    """
    class_of_meter = {meter.id: class_of[number] for number, owner in owners.items() for meter in owner.meters}
    by_class = {class_no: no_day() for class_no in sorted(set(class_of.values()))}
    for meters, days in settled_of_day(connection, day):
        classes = np.array([class_of_meter.get(meter, 0) for meter in meters], np.int64)
        for class_no, energies in by_class.items():
            for number, quantity in enumerate(QUANTITIES):
                energies[number] += days.energies[quantity][classes == class_no].sum(axis=0)
    return by_class


def class_batteries(
    connection: Connection, day: Day, batteries: Mapping[int, NDArray[np.int64]], class_of: Mapping[int, int]
) -> dict[int, NDArray[np.int64]]:
    """Return by class the energy generated and the level in each quarter-hour, (2, 96), ``UNKNOWN`` without readings.

    Args:
        day: The day of UTC.
        batteries: How many batteries of each microgrid have a meter in each quarter-hour, (96), by its number.
        class_of: The number of each microgrid's class.
    """
    first, c = day * QUARTERS_A_DAY, compacted.c
    kinds = connection.execute(select(controller.c.kind, controller.c.number))
    # A controller without meters has no class.
    class_of_kind = {kind: class_of[number] for kind, number in kinds if number in class_of}
    sums = func.sum(c.total), func.sum(c.last_reading), func.count(c.last_reading)
    # By class: the rows of all microgrids would take the other threads' time.
    statement = select(c.quarter, controller.c.kind, c.record_type, *sums)
    statement = statement.join(controller, controller.c.number == c.owner_no)
    statement = statement.where(c.quarter.between(first, first + QUARTERS_A_DAY - 1))
    statement = statement.where(c.record_type.in_([_GENERATION, _STORED]))
    by_class = {number: np.zeros((2, 2, QUARTERS_A_DAY), np.int64) for number in set(class_of.values())}
    grouped = statement.group_by(c.quarter, controller.c.kind, c.record_type)
    for quarter, kind, record_type, total, last, count in connection.execute(grouped):
        if kind not in class_of_kind:
            continue
        row = 0 if record_type == _GENERATION else 1
        value = int((total if row == 0 else last) or 0)
        by_class[class_of_kind[kind]][:, row, quarter - first] += (value, count)
    wanted = {number: np.zeros(QUARTERS_A_DAY, np.int64) for number in by_class}
    for owner, count in batteries.items():
        wanted[class_of[owner]] += count
    return {number: _of_all(pair[0], pair[1], wanted[number]) for number, pair in by_class.items()}


def _of_all(sums: NDArray[np.int64], counts: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the sums of all batteries: the few without a reading are as the others in the mean."""
    return np.where(counts * 100 >= wanted * LEAST_PERCENT, sums * wanted // np.maximum(counts, 1), UNKNOWN)


def generated(connection: Connection, first: Quarter, until: Quarter) -> dict[int, tuple[int, int]]:
    """Return the energy generated in some quarters, and the slots with a reading of it, by number of the meter."""
    c = compacted.c
    statement = select(c.meter_no, func.sum(c.total), func.sum(c.exact + c.averaged)).group_by(c.meter_no)
    statement = statement.where(c.quarter.between(first, until - 1), c.record_type == _GENERATION)
    rows = connection.execute(statement)
    return {number: (int(total or 0), int(slots)) for number, total, slots in rows}


def levels(connection: Connection, quarter: Quarter) -> dict[int, int]:
    """Return the level at the end of a quarter, by number of the meter."""
    c = compacted.c
    statement = select(c.meter_no, c.last_reading).where(c.quarter == quarter, c.record_type == _STORED)
    rows = connection.execute(statement)
    return {number: level for number, level in rows if level is not None}


def seconds_in_state(
    connection: Connection, meters: Mapping[int, EpochSeconds], bits: State, start: EpochSeconds
) -> dict[int, int]:
    """Return for how many seconds a meter's state had any of some bits, by the meter's number.

    Args:
        meters: The numbers of the meters, each with the second after the last one that counts.
        start: The first second.
    """
    c, on_s = event.c, {}
    differs = c.previous_state.bitwise_and(int(bits)) != c.new_state.bitwise_and(int(bits))
    for some in chunks(sorted(meters)):
        within = c.time.between(start - LOOK_BACK_S, max(meters[number] for number in some) - 1)
        statement = select(event).where(c.meter_no.in_(some), within, differs)
        rows = sound_events(connection.execute(statement.order_by(c.meter_no, c.time, c.generation, c.record_id)))
        for number, changes in groupby(rows, key=lambda row: int(row.meter_no)):
            known = [BitChange(time=row.time, is_on=bool(row.new_state & bits)) for row in changes]
            on_s[number] = seconds_on(known, start, meters[number])
    return {number: seconds for number, seconds in on_s.items() if seconds}


CLASSES = ("residential", "apartment", "public")  # the classes: the kinds of microgrids; their numbers are 1, 2, 3
DAYS_AT_A_TIME = 8  # days of a month that are in memory at once: a microgrid may have many meters

_SUMMED = (
    *(quantity.name.lower() for quantity in QUANTITIES),
    *("generated", "used", "slots", "wanted", "quarters", "settled", "missing", "estimated", "reduced_s", "islanded_s"),
)
_ISLANDED = State.OFF_GRID | State.SWITCH_OPEN | State.DEAD_FEEDER

Row = dict[str, Any]


class Scope(IntEnum):
    """What a row of usage is of."""

    ACCOUNT = 1
    MICROGRID = 2
    CLASS = 3
    TOWN = 4


@dataclass(frozen=True, kw_only=True)
class TownUsage:
    """The town as statistics see it."""

    owners: Mapping[int, Owner]  # the microgrids with their meters, by number
    class_of: Mapping[int, int]  # the number of each microgrid's class
    numbers: Mapping[MeterId, int]  # the meters' numbers, by id
    zone: ZoneInfo  # local time
    kept: int  # the first quarter of which readings are kept

    def batteries(self, owner_no: int) -> NDArray[np.int64]:
        """Return the numbers of a microgrid's meters with a battery, ascending."""
        return battery_numbers(self.owners[owner_no].meters, self.numbers)


@dataclass(frozen=True, kw_only=True, eq=False)
class DayUsage:
    """What a day of UTC adds."""

    day: Day  # the day
    classes: Mapping[int, ClassDay]  # the quarter-hours of each class
    # By month that the day overlaps: by meter, energy generated and slots with a reading.
    generated: Mapping[Month, Mapping[int, tuple[int, int]]]
    # By month: by meter, the level at the end of the day's last quarter in the month.
    levels: Mapping[Month, Mapping[int, int]]
    before: Mapping[Month, Mapping[int, int]]  # by month that begins in the day: by meter, the level before it


def load_town_usage(connection: Connection) -> TownUsage:
    """Read the town as statistics see it."""
    known = owners(connection)
    kinds = {row.number: row.kind for row in connection.execute(select(controller.c.number, controller.c.kind))}
    return TownUsage(
        owners=known,
        class_of={number: CLASSES.index(kinds[number]) + 1 for number in known},
        numbers=numbers_of(connection, [meter.id for owner in known.values() for meter in owner.meters]),
        zone=zone_of(connection),
        kept=kept_from(connection),
    )


def battery_numbers(meters: Iterable[Installed], numbers: Mapping[MeterId, int]) -> NDArray[np.int64]:
    """Return the numbers of the meters with a battery, ascending."""
    return np.array(sorted(numbers[meter.id] for meter in meters if meter.capacity is not None), np.int64)


def _installed_batteries(meters: Iterable[Installed], first: Quarter) -> NDArray[np.int64]:
    """Return how many batteries have a meter in each quarter of a day, (96)."""
    counts = np.zeros(QUARTERS_A_DAY, np.int64)
    for meter in meters:
        if meter.capacity is not None:
            start, end = meter.within(first, first + QUARTERS_A_DAY)
            counts[start - first : end - first] += 1
    return counts


def day_usage(connection: Connection, town: TownUsage, day: Day) -> DayUsage:
    """Return what a day of UTC adds; without readings of batteries if they were dropped."""
    classes = class_days(connection, day, town.owners, town.class_of)
    first, until = day * QUARTERS_A_DAY, (day + 1) * QUARTERS_A_DAY
    if first < town.kept:
        return DayUsage(day=day, classes=_with_kept(connection, day, classes), generated={}, levels={}, before={})
    counts = {number: _installed_batteries(owner.meters, first) for number, owner in town.owners.items()}
    for number, batteries in class_batteries(connection, day, counts, town.class_of).items():
        classes[number][len(QUANTITIES) :] = batteries
    parts = {}
    for month in months_of_day(day, town.zone):
        columns = columns_of(month, town.zone)
        parts[month] = max(first, columns.first), min(until, columns.until)
    return DayUsage(
        day=day,
        classes=classes,
        generated={month: generated(connection, *part) for month, part in parts.items()},
        levels={month: levels(connection, part[1] - 1) for month, part in parts.items()},
        before={
            month: levels(connection, part[0] - 1)
            for month, part in parts.items()
            if part[0] == columns_of(month, town.zone).first
        },
    )


def save_day_usage(connection: Connection, town: TownUsage, usage: DayUsage, due: Sequence[int]) -> None:
    """Store what a day of UTC adds: the classes' quarter-hours, and the readings of some microgrids' batteries."""
    take(connection, Lock.STATISTICS)
    rows = [{"day": usage.day, "class_no": n, "payload": packed(quarters)} for n, quarters in usage.classes.items()]
    connection.execute(upsert(connection, usage_day, "payload"), rows)
    for month in usage.generated:
        columns = columns_of(month, town.zone)
        known = _battery_days(connection, month, due)
        changed = []
        for number in due:
            meters = town.batteries(number)
            if len(meters):
                days = aligned(known.get(number, no_days(meters, len(columns.days))), meters)
                _fill(days, usage, month, usage.day - columns.days.start)
                changed.append({"month": month, "owner_no": number, "payload": packed(days.table())})
        if changed:
            connection.execute(upsert(connection, usage_batteries, "payload"), changed)


def microgrid_rows(
    connection: Connection, town: TownUsage, some: Sequence[int], month: Month, now: EpochSeconds
) -> list[Row]:
    """Return the rows of a month of some microgrids and of their accounts."""
    columns = columns_of(month, town.zone)
    members = [meter for number in some for meter in town.owners[number].meters]
    subjects, usage = _usage(connection, town, some, columns)
    if usage is None:
        return []
    start = columns.first * QUARTER_S
    # The last state of a meter that was removed ends with it.
    ends = {town.numbers[m.id]: m.within(columns.first, columns.until)[1] * QUARTER_S for m in members}
    boundaries = {number: ends[number] for number in _boundaries(members, town)}
    more = _More(
        town=town,
        columns=columns,
        widths=_widths(connection, some, columns),
        batteries=_battery_days(connection, month, some),
        reduced=seconds_in_state(connection, ends, State.REDUCING, start),
        islanded=seconds_in_state(connection, boundaries, _ISLANDED, start),
    )
    names = [quantity.name.lower() for quantity in QUANTITIES]
    rows = []
    for (owner_no, account), n in subjects.items():
        row: Row = {"month": month, "owner_no": owner_no, "computed": now, "payload": packed(usage.shape[n])}
        row |= {"scope": int(Scope.ACCOUNT), "subject": account}
        if account == MICROGRID:
            row |= {"scope": int(Scope.MICROGRID), "subject": owner_no}
        row |= dict(zip(names, usage.energies[n].tolist(), strict=True))
        for name in ("peak", "peak_at", "quarters", "settled", "missing", "estimated"):
            row[name] = int(getattr(usage, name)[n])
        rows.append(row | more.of(row, account))
    return rows


def _usage(
    connection: Connection, town: TownUsage, some: Sequence[int], columns: MonthColumns
) -> tuple[dict[tuple[int, int], int], MonthUsage | None]:
    """Return the subjects of some microgrids, with their numbers, and their usage; ``None``: there are none."""
    members = {number: town.owners[number].meters for number in some}
    ids = sorted({meter.id for meters in members.values() for meter in meters})
    rows = {meter_id: row for row, meter_id in enumerate(ids)}
    subjects: dict[tuple[int, int], int] = {}

    def stretches(first: Quarter, until: Quarter) -> list[UsageStretch]:
        return [s for n, meters in members.items() for s in stretches_of(meters, rows, subjects, n, first, until)]

    stretches(columns.first, columns.until)  # Numbers all subjects.
    usage: MonthUsage | None = None
    for part in columns.parts(DAYS_AT_A_TIME) if subjects else ():
        loaded = load_settled(connection, ids, part.first, part.until)
        later = usage_of(loaded, stretches(part.first, part.until), len(subjects), part)
        usage = later if usage is None else usage.then(later)
    return subjects, usage


def save_microgrid_rows(connection: Connection, some: Sequence[int], month: Month, rows: Sequence[Row]) -> None:
    """Replace the rows of a month of some microgrids and of their accounts."""
    take(connection, Lock.STATISTICS)
    c = usage_month.c
    ours = (c.month == month) & c.scope.in_([Scope.ACCOUNT, Scope.MICROGRID]) & c.owner_no.in_(list(some))
    connection.execute(usage_month.delete().where(ours))
    if rows:
        connection.execute(usage_month.insert(), list(rows))


def refresh_classes(connection: Connection, town: TownUsage, month: Month, now: EpochSeconds) -> None:
    """Compute the rows of a month of the classes and of the town from those of the microgrids."""
    take(connection, Lock.STATISTICS)
    columns = columns_of(month, town.zone)
    c, d = usage_month.c, usage_day.c
    sums: dict[int, Row] = {}
    own = select(*(c[name] for name in (*_SUMMED, "subject"))).where(c.month == month, c.scope == Scope.MICROGRID)
    for stored in connection.execute(own).mappings():
        for class_no in (town.class_of[stored["subject"]], 0):
            _add(sums.setdefault(class_no, {}), stored)
    days: dict[int, dict[Day, ClassDay]] = {}
    wanted = d.day.between(columns.days.start - 1, columns.days[-1])
    for day, class_no, payload in connection.execute(select(d.day, d.class_no, d.payload).where(wanted)):
        days.setdefault(class_no, {})[day] = unpacked(payload, f"usage of day {day}, class {class_no}")
    every = set[Day]().union(*days.values())
    days[0] = {day: added([its[day] for its in days.values() if day in its]) for day in every}
    rows = []
    for class_no, row in sums.items():
        usage = class_month(days.get(class_no, {}), columns)
        scope = Scope.CLASS if class_no else Scope.TOWN
        row |= {"month": month, "scope": int(scope), "subject": class_no, "owner_no": 0, "computed": now}
        rows.append(row | {"peak": usage.peak, "peak_at": usage.peak_at, "payload": packed(usage.shape)})
    connection.execute(usage_month.delete().where(c.month == month, c.scope.in_([Scope.CLASS, Scope.TOWN])))
    if rows:
        connection.execute(usage_month.insert(), rows)


@dataclass(frozen=True, kw_only=True)
class _More:
    """What a row has besides settled energies."""

    town: TownUsage
    columns: MonthColumns
    widths: Mapping[int, NDArray[np.int64]]
    batteries: Mapping[int, BatteryDays]
    reduced: Mapping[int, int]
    islanded: Mapping[int, int]

    def of(self, row: Row, account: int) -> Row:
        """Return what was generated and used, and how long demand was reduced and the microgrid islanded."""
        number = row["owner_no"]
        members = self.town.owners[number].meters
        ours, whole = _meters_of(members, account, self.columns)
        meters = battery_numbers(ours, self.town.numbers)
        days = self.batteries.get(number, no_days(meters, len(self.columns.days)))
        sums = generated_by(days, meters, self.widths.get(number, np.zeros(len(self.columns.days), np.int64)))
        is_known = (whole or not len(meters)) and sums.gained is not None
        taken = row["imported"] + row["shared_in"] - row["exported"] - row["shared_out"]
        reduced = {meter.place: 0 for meter in ours}
        for meter in ours:
            reduced[meter.place] = max(reduced[meter.place], self.reduced.get(self.town.numbers[meter.id], 0))
        boundaries = _boundaries(members, self.town)
        return {
            "generated": sums.energy if is_known else None,
            "used": taken + sums.energy - (sums.gained or 0) if is_known else None,
            "slots": sums.slots,
            "wanted": sums.wanted,
            "reduced_s": sum(reduced.values()),
            "islanded_s": max((self.islanded.get(boundary, 0) for boundary in boundaries), default=0),
        }


def _meters_of(members: Sequence[Installed], account: int, columns: MonthColumns) -> tuple[list[Installed], bool]:
    """Return the meters of an account or of the microgrid in a month, and whether they tell what was used in all of it.

    A meter without a battery may have been exchanged; the level at which a battery's meter was is not known.
    """
    ours, whole = [], True
    length, covered = columns.until - columns.first, Counter[tuple[str, str]]()
    for meter in members:
        start, end = meter.within(columns.first, columns.until)
        spans = meter.held(columns.first, columns.until)
        if meter.function is Function.BOUNDARY or start == end:
            continue
        if account == MICROGRID or any(span[0] == account for span in spans):
            ours.append(meter)
            covered[meter.place, meter.direction] += end - start
            whole &= account == MICROGRID or (account, start, end) in spans
            whole &= meter.capacity is None or end - start == length
    stored = {meter.place for meter in ours if meter.capacity is not None}
    return ours, whole and all(time >= length for (place, _), time in covered.items() if place in stored)


def _boundaries(members: Iterable[Installed], town: TownUsage) -> list[int]:
    return [town.numbers[meter.id] for meter in members if meter.function is Function.BOUNDARY]


def _widths(connection: Connection, some: Sequence[int], columns: MonthColumns) -> dict[int, NDArray[np.int64]]:
    """Return the quarters of each settled day that lie in the month, by microgrid."""
    c, days = settled_day.c, columns.days
    starts = np.array(days) * QUARTERS_A_DAY
    whole = np.minimum(starts + QUARTERS_A_DAY, columns.until) - np.maximum(starts, columns.first)
    widths = {number: np.zeros(len(days), np.int64) for number in some}
    wanted = select(c.day, c.owner_no).where(c.day.between(days.start, days[-1]), c.owner_no.in_(list(some)))
    for day, number in connection.execute(wanted):
        widths[number][day - days.start] = whole[day - days.start]
    return widths


def _battery_days(connection: Connection, month: Month, some: Sequence[int]) -> dict[int, BatteryDays]:
    c = usage_batteries.c
    wanted = select(c.owner_no, c.payload).where(c.month == month, c.owner_no.between(min(some), max(some)))
    return {
        number: days_from(unpacked(payload, f"batteries of {month_text(month)}, microgrid {number}"))
        for number, payload in connection.execute(wanted)
    }


def _fill(days: BatteryDays, usage: DayUsage, month: Month, column: int) -> None:
    sums, level, before = usage.generated[month], usage.levels[month], usage.before.get(month)
    for row, number in enumerate(days.meters.tolist()):
        days.generated[row, column], days.slots[row, column] = sums.get(number, (0, 0))
        days.level[row, column] = level.get(number, -1)
        if before is not None:
            days.before[row] = before.get(number, -1)


def _with_kept(connection: Connection, day: Day, classes: dict[int, ClassDay]) -> dict[int, ClassDay]:
    """Return a day with the generation and levels that are stored of it, since its readings were dropped."""
    d = usage_day.c
    for class_no, payload in connection.execute(select(d.class_no, d.payload).where(d.day == day)):
        if class_no in classes:
            classes[class_no][len(QUANTITIES) :] = unpacked(payload, f"usage of day {day}")[len(QUANTITIES) :]
    return classes


def _add(row: Row, other: Mapping[Any, Any]) -> None:
    for name in _SUMMED:
        value = other[name]
        row[name] = row.get(name) if value is None else (row.get(name) or 0) + value
