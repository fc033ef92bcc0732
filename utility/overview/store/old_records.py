"""Drops what was made of readings and is older than ``keep_years``: settled days, sharing, corrections, usage, bills.

Nothing that an issued bill names is dropped while the bill is kept: its run, the run before it, and the settled days of
the months that it bills or corrects. Rates are kept: they are few, and public. So are logs of who did what.
"""

from dataclasses import dataclass

from sqlalchemy import Connection, Table, func, select

from commonwatt.model.calendar import month_before, month_of, month_quarters
from commonwatt.model.units import QUARTER_S, EpochSeconds
from utility.billing.tables import bill, bill_run, witness
from utility.corrections.tables import correction, correction_step, finding
from utility.database.database import Database
from utility.database.town_zone import zone_of
from utility.energy.quarters import QUARTERS_A_DAY
from utility.jobs.tables import complete_day, settled_day
from utility.readings.store.retention import newest_quarter
from utility.registry.layout import Day
from utility.settlement.tables import settled, sharing, sharing_quarter
from utility.statistics.months import month_number
from utility.statistics.tables import usage_batteries, usage_day, usage_month, usage_projection
from utility.tariffs.store import CORRECTED_MONTHS

DAYS_AT_ONCE = 1  # days whose records are deleted in one transaction, so that arriving batches wait only briefly
_BY_DAY = (settled, settled_day, complete_day, usage_day)  # tables with a row for a day; the column is ``day``
_BY_QUARTER = (sharing, sharing_quarter)  # tables with a row for a quarter-hour; the column is ``quarter``


_BY_MONTH = (usage_month, usage_batteries, usage_projection)
"""Tables with a row for a local month; the column is ``month``."""


@dataclass(frozen=True, kw_only=True)
class KeptRecords:
    """What is kept."""

    month: str  # the first local month whose runs of bills and usage are kept
    day: Day  # the first UTC day whose records are kept


def kept(connection: Connection, now: EpochSeconds, keep_years: int) -> KeptRecords:
    """Return what is to be kept.

    If the newest reading is older than ``now``, its month counts as the present one: a clock that is years ahead drops
    nothing.

    Args:
        keep_years: How many years are kept at least.
    """
    zone = zone_of(connection)
    newest = newest_quarter(connection)
    present = month_of(now // QUARTER_S if newest is None else min(newest, now // QUARTER_S), zone)
    first = f"{int(present[:4]) - keep_years:04d}{present[4:]}"
    issued = (bill_run.c.state == "issued") & (bill_run.c.month >= first)
    oldest = connection.execute(select(func.min(bill_run.c.month)).where(issued)).scalar()
    named = first
    if oldest is not None:
        named = oldest
        for _ in range(CORRECTED_MONTHS):
            named = month_before(named)
    return KeptRecords(month=first, day=month_quarters(min(named, first), zone)[0] // QUARTERS_A_DAY)


def drop_months(database: Database, keep: KeptRecords) -> None:
    """Delete the usage of months and the runs of bills that are not kept."""
    with database.writes.begin() as connection:
        for table in _BY_MONTH:
            connection.execute(table.delete().where(table.c.month < month_number(keep.month)))
        for number in old_runs(connection, keep):
            for table in (bill, witness):
                connection.execute(table.delete().where(table.c.run_no == number))
            connection.execute(bill_run.delete().where(bill_run.c.no == number))


def old_runs(connection: Connection, keep: KeptRecords) -> list[int]:
    """Return the runs of bills of months that are not kept, but for those that a kept run names."""
    c = bill_run.c
    named = select(c.previous_no).where(c.month >= keep.month)
    return list(connection.execute(select(c.no).where(c.month < keep.month, c.no.not_in(named))).scalars())


def drop_days(database: Database, keep: KeptRecords) -> bool:
    """Delete the records of the oldest days that are not kept; return whether there may be more."""
    with database.writes.begin() as connection:
        oldest = oldest_day(connection)
        if oldest is None or oldest >= keep.day:
            return False
        until = min(oldest + DAYS_AT_ONCE, keep.day)
        _delete_before(connection, until)
    return until < keep.day


def oldest_day(connection: Connection) -> Day | None:
    """Return the oldest UTC day with a record; ``None``: there is none."""
    days = [_first(connection, table, "day") for table in _BY_DAY]
    quarters = [_first(connection, table, "quarter") for table in (*_BY_QUARTER, correction)]
    quarters.append(_first(connection, finding, "until_quarter"))
    found = [day for day in days if day is not None]
    return min([*found, *(quarter // QUARTERS_A_DAY for quarter in quarters if quarter is not None)], default=None)


def _first(connection: Connection, table: Table, column: str) -> int | None:
    found: int | None = connection.execute(select(func.min(table.c[column]))).scalar()
    return found


def _delete_before(connection: Connection, day: Day) -> None:
    quarter = day * QUARTERS_A_DAY
    for table in _BY_DAY:
        connection.execute(table.delete().where(table.c.day < day))
    for table in _BY_QUARTER:
        connection.execute(table.delete().where(table.c.quarter < quarter))
    old = select(correction.c.no).where(correction.c.quarter < quarter)
    connection.execute(correction_step.delete().where(correction_step.c.correction_no.in_(old)))
    connection.execute(correction.delete().where(correction.c.quarter < quarter))
    connection.execute(finding.delete().where(finding.c.until_quarter <= quarter))
