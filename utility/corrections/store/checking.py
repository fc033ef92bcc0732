"""What the daily checks read, and what they found (B4)."""

from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy import BigInteger, ColumnElement, Connection, cast, delete, func, select

from commonwatt.model.units import QUARTER_S, EpochSeconds, Quarter, quarter_of
from utility.corrections.checked_days import (
    DayOf,
    JudgedDay,
    Series,
    judged,
    layout_of,
    members_in,
    outages_of,
)
from utility.corrections.correction import OpenFinding
from utility.corrections.store.estimating import ends_of, members_of
from utility.corrections.tables import checked_day, finding
from utility.corrections.validation import CheckLimits, ReadingCheck
from utility.database.base import read
from utility.database.database import Database, insert_or, read_setting, save_setting
from utility.energy.quarters import QUARTERS_A_DAY
from utility.readings.gaps import MAX_AGE_QUARTERS, off_times
from utility.readings.store.flows import measured
from utility.readings.store.gaps import events_by_meter
from utility.readings.store.parts import chunks
from utility.readings.store.reads import numbers_of
from utility.readings.store.retention import kept_from
from utility.readings.tables import gap, series
from utility.registry.tables import controller, meter
from utility.supply.store import loss_permille

MAX_DAYS = 7  # most days that are checked after a time without the service; earlier ones are left out
_DONE = "checked_until"  # setting with the first UTC day that is not checked


def days_to_check(connection: Connection, before: int) -> range:
    """Return the UTC days (epoch seconds // 86,400) before a day that are not checked; at first, the last one.

    Days to come were checked by a clock that was ahead: then it is the last one, too.
    """
    done = int(read_setting(connection, _DONE) or before - 1)
    return range(max(done if done <= before else before - 1, before - MAX_DAYS), before)


def owners(connection: Connection) -> list[int]:
    """Return the numbers of the controllers of all microgrids."""
    return sorted(connection.execute(select(controller.c.number)).scalars())


class Checker:
    """Checks a microgrid's day in one database."""

    def __init__(self, database: Database, limits: CheckLimits) -> None:
        self._database = database
        self._limits = limits

    def judged(self, owner: int, day: int) -> JudgedDay:
        """Return what the checks find in a microgrid's UTC day."""
        first = day * QUARTERS_A_DAY
        with self._database.reads.begin() as connection:
            members = members_in(members_of(connection, owner), first, first + QUARTERS_A_DAY)
            numbers = [m.no for m in members]
            begin, end = first * QUARTER_S, (first + QUARTERS_A_DAY) * QUARTER_S
            events = events_by_meter(connection, numbers, begin, end)
            of = DayOf(
                first=first,
                measured=measured(connection, numbers, range(first - 1, first + QUARTERS_A_DAY)),
                began=_began(connection, numbers),
                outages=outages_of(events, ends_of(members)),
                off={number: off_times(found) for number, found in events.items()},
                before=_before(connection, numbers, day, self._limits.reference_days),
                loss_permille=loss_permille(connection),
            )
        return judged(members, layout_of(members), of, self._limits)

    def forget(self, connection: Connection, day: int) -> None:
        """Note that a day is checked, and delete days that are compared with no more."""
        save_setting(connection, _DONE, str(day + 1))
        connection.execute(delete(checked_day).where(checked_day.c.day < day - 2 * self._limits.reference_days))


def save(connection: Connection, found: JudgedDay, day: int, now: EpochSeconds) -> None:
    """Store what was found in a microgrid's day. A repeated check changes nothing."""
    numbers = numbers_of(connection, sorted({one.meter for one in found.findings}))
    rows = [
        {
            "meter_no": numbers[one.meter],
            "record_type": one.record_type,
            "check_name": one.check.value,
            "first_quarter": one.first,
            "until_quarter": one.until,
            "figure": one.figure,
            "threshold": one.threshold,
            "found": now,
        }
        for one in found.findings
    ]
    if rows:
        connection.execute(insert_or(connection, finding).on_conflict_do_nothing(), rows)
    past = [
        {"day": day, "meter_no": number, "record_type": kind, "energy": energy}
        for (number, kind), energy in found.ordinary.items()
    ]
    if past:
        connection.execute(insert_or(connection, checked_day).on_conflict_do_nothing(), past)


def close_filled(connection: Connection, now: EpochSeconds) -> None:
    """Close the findings of gaps whose readings came after all.

    Only where the gap finder has looked, and still does: elsewhere a gap that it does not list may be one.
    """
    c, g, s = finding.c, gap.c, series.c
    oldest = max(quarter_of(now) - MAX_AGE_QUARTERS, kept_from(connection))
    looked = select(s.meter_no).where(
        s.meter_no == c.meter_no,
        s.record_type == c.record_type,
        s.scanned_from <= c.first_quarter,
        s.scanned_until >= c.until_quarter,
    )
    still = select(g.meter_no).where(
        g.meter_no == c.meter_no,
        g.record_type == c.record_type,
        g.quarter.between(c.first_quarter, c.until_quarter - 1),
    )
    filled = finding.update().where(
        c.closed.is_(None), c.check_name == ReadingCheck.GAP.value, c.first_quarter >= oldest
    )
    filled = filled.where(looked.exists(), ~still.exists())
    connection.execute(filled.values(closed=now, closed_by="", why="the readings came"))


def close(connection: Connection, numbers: Sequence[int], person: str, why: str, now: EpochSeconds) -> list[int]:
    """Close open findings; return the numbers of those closed."""
    c = finding.c
    statement = finding.update().where(c.no.in_(numbers), c.closed.is_(None))
    closed = statement.values(closed=now, closed_by=person, why=why).returning(c.no)
    return sorted(connection.execute(closed).scalars())


def open_findings(
    connection: Connection,
    limit: int,
    numbers: Sequence[int] | None = None,
    check: ReadingCheck | None = None,
    skipped: int = 0,
) -> list[OpenFinding]:
    """Return the oldest open findings after the first ``skipped``."""
    c = finding.c
    columns = (
        *(c.no, meter.c.microgrid, meter.c.label.label("meter"), c.record_type.label("type")),
        *(_second(c.first_quarter).label("start"), _second(c.until_quarter).label("until")),
        *(c.check_name.label("check"), c.figure, c.threshold),
    )
    statement = select(*columns).join(meter, meter.c.no == c.meter_no)
    statement = statement.where(c.closed.is_(None)).order_by(c.first_quarter, c.meter_no, c.no)
    statement = statement.limit(limit).offset(skipped)
    if numbers is not None:
        statement = statement.where(c.meter_no.in_(numbers))
    if check is not None:
        statement = statement.where(c.check_name == check.value)
    return read(OpenFinding, connection.execute(statement))


def _second(quarter: ColumnElement[int]) -> ColumnElement[int]:
    """Return a quarter's first second; from 2038 on it does not fit a server's integer."""
    return cast(quarter, BigInteger) * QUARTER_S


def count_open(connection: Connection) -> dict[str, int]:
    """Return the number of open findings by check; 0 for checks without."""
    c = finding.c
    statement = select(c.check_name, func.count()).where(c.closed.is_(None)).group_by(c.check_name)
    return {check.value: 0 for check in ReadingCheck} | dict(connection.execute(statement).all())


def _began(connection: Connection, numbers: Sequence[int]) -> dict[Series, Quarter]:
    return {
        (row.meter_no, row.record_type): row.first_quarter
        for some in chunks(numbers)
        for row in connection.execute(select(series).where(series.c.meter_no.in_(some)))
    }


def _before(connection: Connection, numbers: Sequence[int], day: int, days: int) -> dict[Series, list[int]]:
    found: dict[Series, list[int]] = defaultdict(list)
    c = checked_day.c
    for some in chunks(numbers):
        # Twice as many days back: days with an outage or a gap are not among them.
        past = select(checked_day).where(c.meter_no.in_(some), c.day < day, c.day >= day - 2 * days).order_by(c.day)
        for row in connection.execute(past):
            found[row.meter_no, row.record_type].append(row.energy)
    return found
