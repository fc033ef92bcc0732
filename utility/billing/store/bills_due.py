"""Whether a local month is to be billed, and what its bills wait for."""

from zoneinfo import ZoneInfo

from commonwatt.model.time.local_calendar import month_quarters
from commonwatt.model.units import QUARTER_S
from utility.billing.store.billing import is_billed, unissued_before
from utility.database.database import Database
from utility.jobs.calendar_periods import Period
from utility.settlement.store.final_days import days_between, first_settled_day, not_final
from utility.tariffs.store.tariffs import published


def local_month(name: str, zone: ZoneInfo) -> Period:
    """Return a local month as the period of its job."""
    first, until = month_quarters(name, zone)
    return Period(start=first * QUARTER_S, end=until * QUARTER_S, name=name)


def is_to_bill(database: Database, month: Period) -> bool:
    """Return whether a month is still to be billed, and can ever be.

    It can't if no tariff is published, or if the town's first day was settled after it.
    """
    with database.reads.begin() as connection:
        begun = first_settled_day(connection)
        if begun is None or begun >= days_between(month.start, month.end).stop:
            return False
        return bool(published(connection)) and not is_billed(connection, month.name)


def bills_wait_for(database: Database, month: Period) -> str | None:
    """Return what a month's bills wait for; ``None``: for nothing."""
    with database.reads.begin() as connection:
        if (earlier := unissued_before(connection, month.name)) is not None:
            return f"the bills of {earlier} are not issued yet: the next bills begin with them"
        return not_final(connection, days_between(month.start, month.end))
