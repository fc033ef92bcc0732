"""Completeness of finished days, counted once and again after late readings; so a month of the town is a short sum.

Days are of UTC, as settled ones. A day is marked when readings of it are joined, or the registry changes it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Connection, RowMapping, bindparam, func, select

from commonwatt.model.units import SLOTS, EpochSeconds, Quarter
from utility.database.database import Database, read_setting, save_setting
from utility.energy.quarters import QUARTERS_A_DAY
from utility.jobs.store import MarkedDay, mark
from utility.jobs.tables import complete_day
from utility.readings.store.completeness import Completeness, by_microgrid, completeness
from utility.readings.store.parts import chunks
from utility.readings.store.retention import kept_from
from utility.readings.tables import compacted, series
from utility.registry.layout import Day
from utility.registry.store.registry import removed_meters
from utility.registry.tables import controller, meter

MOST_DAYS = 366  # days back that are counted after an update from a version without these counts
AGAIN_DAYS = 40  # days back of which missing slots are looked at again each day
_MARKED_UNTIL = "complete_days_until"  # setting with the first day that was not marked as finished yet

_NAMES = tuple(vars(Completeness()))
_BY_OWNER = (
    select(
        compacted.c.owner_no,
        func.count().label("blocks"),
        func.sum(compacted.c.exact, type_=BigInteger).label("exact"),
        func.sum(compacted.c.averaged, type_=BigInteger).label("averaged"),
    )
    .where(compacted.c.quarter == bindparam("quarter"))
    .group_by(compacted.c.owner_no)
)
_OF_METERS = select(compacted.c.owner_no, compacted.c.meter_no, compacted.c.quarter).where(
    compacted.c.quarter.in_(bindparam("quarters", expanding=True)),
    compacted.c.meter_no.in_(bindparam("meters", expanding=True)),
)


def mark_finished(connection: Connection, until: Day) -> None:
    """Mark each day before ``until`` that is over and was not marked yet, also for microgrids without any reading.

    With a further day, the last ``AGAIN_DAYS`` are marked again where slots are missing: the reason may be known now.
    """
    first = connection.execute(select(func.min(series.c.first_quarter))).scalar()
    if first is None:
        return
    begin = max(first // QUARTERS_A_DAY, kept_from(connection) // QUARTERS_A_DAY, until - MOST_DAYS)
    begin = max(begin, int(read_setting(connection, _MARKED_UNTIL) or 0))
    if begin >= until:
        return
    since = (
        select(controller.c.number, func.min(series.c.first_quarter))
        .join(meter, meter.c.microgrid == controller.c.id)
        .join(series, series.c.meter_no == meter.c.no)
        .group_by(controller.c.number)
    )
    owners = [(number, quarter // QUARTERS_A_DAY) for number, quarter in connection.execute(since)]
    for day in range(begin, until):
        mark(connection, complete_day, {(day, number) for number, started in owners if started <= day})
    c = complete_day.c
    lacking = c.day.between(begin - AGAIN_DAYS, begin - 1) & (c.computed > 0) & (c.missing + c.quarantined > 0)
    connection.execute(complete_day.update().where(lacking).values(marks=c.marks + 1))
    save_setting(connection, _MARKED_UNTIL, str(until))


def marked_days(connection: Connection, until: Day) -> dict[Day, list[MarkedDay]]:
    """Return what is to be counted of the days before ``until``, the newest first."""
    c = complete_day.c
    statement = select(c.day, c.owner_no, c.marks).where(c.marks > 0, c.day < until, c.day >= _first_kept(connection))
    found: dict[Day, list[MarkedDay]] = {}
    for row in connection.execute(statement.order_by(c.day.desc(), c.owner_no)).mappings():
        found.setdefault(row["day"], []).append(MarkedDay(**row))
    return found


def _first_kept(connection: Connection) -> Day:
    """Return the first day of which all readings are kept; what was counted of earlier ones stays."""
    return -(-kept_from(connection) // QUARTERS_A_DAY)


class DayCount:
    """Counts one day: whole microgrids by sums of their blocks, each of the others slot by slot.

    Args:
        due: The microgrids to be counted.
    """

    def __init__(self, database: Database, day: Day, due: Sequence[MarkedDay]) -> None:
        self.quarters = range(day * QUARTERS_A_DAY, (day + 1) * QUARTERS_A_DAY)
        self._database = database
        self._due = due
        self._sums: dict[int, tuple[int, int, int]] = {}

    def add(self, quarters: Sequence[Quarter]) -> None:
        """Add the blocks of some quarters of the day."""
        with self._database.reads.begin() as connection:
            for quarter in quarters:
                for row in connection.execute(_BY_OWNER, {"quarter": quarter}):
                    blocks, exact, averaged = self._sums.get(row.owner_no, (0, 0, 0))
                    self._sums[row.owner_no] = blocks + row.blocks, exact + row.exact, averaged + row.averaged

    def whole(self) -> dict[int, Completeness]:
        """Return the counts of the due microgrids that lack nothing."""
        expected = self._database.read(_expected, self.quarters)
        found = {}
        for one in self._due:
            blocks, exact, averaged = self._sums.get(one.owner_no, (0, 0, 0))
            if blocks == expected.get(one.owner_no, 0) and exact + averaged == blocks * SLOTS:
                found[one.owner_no] = Completeness(exact=exact, averaged=averaged)
        return found

    def slot_by_slot(self, owner_no: int) -> Completeness:
        """Return the counts of one microgrid, with the reasons why slots are missing."""
        with self._database.reads.begin() as connection:
            name = connection.execute(select(controller.c.id).where(controller.c.number == owner_no)).scalar()
        found = completeness(self._database, self.quarters.start, self.quarters.stop, name or "")
        return by_microgrid(found).get(name or "", Completeness())


def _expected(connection: Connection, quarters: range) -> dict[int, int]:
    """Return how many blocks each microgrid's series should have in some quarters, and has of removed meters."""
    statement = (
        select(controller.c.number, series.c.first_quarter, series.c.meter_no)
        .join(meter, meter.c.no == series.c.meter_no)
        .join(controller, controller.c.id == meter.c.microgrid)
    )
    found: dict[int, int] = {}
    removed = removed_meters(connection)
    for number, first, meter_no in connection.execute(statement):
        end = min(quarters.stop, removed.get(meter_no, quarters.stop))
        found[number] = found.get(number, 0) + max(0, end - max(first, quarters.start))
    # Blocks of a meter after its removal must not stand for missing ones of another meter.
    for some in chunks([number for number, end in removed.items() if end < quarters.stop]):
        values = {"meters": some, "quarters": list(quarters)}
        for row in connection.execute(_OF_METERS, values):
            if row.quarter >= removed[row.meter_no]:
                found[row.owner_no] = found.get(row.owner_no, 0) + 1
    return found


def save_counts(connection: Connection, found: Iterable[tuple[MarkedDay, Completeness]], now: EpochSeconds) -> None:
    """Store counts; a mark that came since stays."""
    c = complete_day.c
    for one, counts in found:
        ours = (c.day == one.day) & (c.owner_no == one.owner_no)
        values = vars(counts) | {"computed": now, "marks": c.marks - one.marks}
        connection.execute(complete_day.update().where(ours).values(values))


@dataclass(frozen=True, kw_only=True)
class CountedDays:
    """The completeness of some days."""

    by_day: dict[Day, Completeness]  # by day
    by_microgrid: dict[str, Completeness]  # by microgrid
    pending: int  # microgrid-days, of which readings are kept, that are not counted yet, or whose late readings are not
    computed: EpochSeconds | None  # when the oldest of the counts was made; ``None``: nothing was counted

    @property
    def total(self) -> Completeness:
        """The sum."""
        found = Completeness()
        for one in self.by_day.values():
            found.add(one)
        return found


def counted_days(connection: Connection, first: Day, until: Day) -> CountedDays:
    """Return the completeness of the days ``first`` to ``until`` - 1 by day and by microgrid."""
    c = complete_day.c
    sums = [func.sum(c[name], type_=BigInteger).label(name) for name in _NAMES]
    within = c.day.between(first, until - 1)
    # What is not counted yet has counts of 0.
    waits = (c.day >= _first_kept(connection)) & ((c.marks > 0) | (c.computed == 0))
    pending = func.count().filter(waits).label("pending")
    oldest = func.min(c.computed).filter(c.computed > 0).label("oldest")
    by_day = select(c.day.label("key"), *sums, pending, oldest).where(within).group_by(c.day).order_by(c.day)
    # Microgrids get their names after the sums, of which there are fewer.
    by_number = select(c.owner_no, *sums).where(within, c.computed > 0).group_by(c.owner_no).subquery()
    by_owner = select(controller.c.id.label("key"), by_number).join_from(
        by_number, controller, controller.c.number == by_number.c.owner_no
    )
    days = connection.execute(by_day).mappings().all()
    return CountedDays(
        by_day=_counts(row for row in days if row["oldest"] is not None),
        by_microgrid=_counts(connection.execute(by_owner.order_by(by_number.c.owner_no)).mappings()),
        pending=sum(row["pending"] for row in days),
        computed=min((row["oldest"] for row in days if row["oldest"] is not None), default=None),
    )


def _counts(rows: Iterable[RowMapping]) -> dict[Any, Completeness]:
    return {row["key"]: Completeness(**{name: int(row[name]) for name in _NAMES}) for row in rows}
