"""After seven years bills and what they were made of are dropped, and nothing that a kept bill names."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import func, select

from harness.real import databases
from harness.real.jobs import compact
from harness.surroundings.sent import append, blocks
from utility.billing.tables import bill, bill_run
from utility.corrections.tables import correction, correction_step, finding
from utility.database.database import Database
from utility.jobs.tables import settled_day
from utility.overview.store.old_records import Kept, drop_days, drop_months, kept, oldest_day
from utility.readings.store.writer import Writer
from utility.settlement.tables import settled, sharing, sharing_quarter
from utility.statistics.tables import usage_batteries

NEW_YORK = ZoneInfo("America/New_York")
TABLES = (settled, settled_day, sharing_quarter, sharing, correction, correction_step, finding)


def at(*when: int) -> int:
    return int(datetime(*when, tzinfo=NEW_YORK).timestamp())  # type: ignore[arg-type,misc]


NOW = at(2034, 3, 10)


def day_of(*when: int) -> int:
    return at(*when) // 86_400


def add_run(database: Database, month: str, state: str, previous: int = 0) -> int:
    row = {"month": month, "state": state, "policy": "", "code": "", "settled_no": 1, "previous_no": previous}
    row |= {"inputs_digest": state, "digest": "", "figures": "{}", "inputs": b"", "made_by": "", "made": 0}
    with database.writes.begin() as connection:
        number = connection.execute(bill_run.insert().values(row).returning(bill_run.c.no)).scalar_one()
        connection.execute(bill.insert().values(run_no=number, account=1, cents=1, content="{}"))
    return int(number)


def add_day(database: Database, day: int) -> None:
    """Have a row of each table for a day."""
    quarter = day * 96 + 95
    version = {"quarter": quarter, "owner_no": 1, "version": 1}
    with database.writes.begin() as connection:
        row = {"day": day, "meter_no": 1, "computed_minute": 0, "version": 1, "why": 1, "payload": b""}
        connection.execute(settled.insert().values(row))
        row = {"day": day, "owner_no": 1, "convention": "", "computed": 0, "missing": 0, "final": True, "residual": ""}
        connection.execute(settled_day.insert().values(row))
        connection.execute(sharing_quarter.insert().values(version | {"computed": 0, "complete": True, "shared": 1}))
        connection.execute(sharing.insert().values(version | {"meter_no": 1, "given": 1, "received": 0}))
        row = {"quarter": quarter, "meter_no": 1, "record_type": 1, "version": 1, "owner_no": 1, "method": 1}
        row |= {"mask": 1, "energy": 1, "state": "approved", "payload": b""}
        number = connection.execute(correction.insert().values(row).returning(correction.c.no)).scalar_one()
        step = {"correction_no": number, "time": 0, "person": "", "state_before": "", "state_after": "", "why": ""}
        connection.execute(correction_step.insert().values(step))
        found = {"meter_no": 1, "record_type": 1, "check_name": "gap", "figure": 1, "threshold": 1, "found": 0}
        connection.execute(finding.insert().values(found | {"first_quarter": quarter, "until_quarter": quarter + 1}))


def drop(database: Database) -> Kept:
    with database.reads.begin() as connection:
        keep = kept(connection, NOW, 7)
    drop_months(database, keep)
    while drop_days(database, keep):
        pass
    return keep


def counts(database: Database) -> set[int]:
    """Return how many rows the tables have."""
    with database.reads.begin() as connection:
        return {connection.execute(select(func.count()).select_from(table)).scalar_one() for table in TABLES}


@databases.on_both_kinds
def test_without_bills_what_is_older_than_seven_years_goes(database: Database) -> None:
    keep = drop(database)
    assert (keep.month, keep.day) == ("2027-03", day_of(2027, 3, 1))
    for day in (keep.day - 4_000, keep.day - 20, keep.day - 1, keep.day, keep.day + 1):
        add_day(database, day)
    drop(database)
    assert counts(database) == {2}
    with database.reads.begin() as connection:
        assert oldest_day(connection) == keep.day
    drop(database)
    assert counts(database) == {2}


def test_a_clock_that_is_years_ahead_drops_no_bills_and_settled_days(database: Database) -> None:
    Writer(database).commit([append(blocks({0: 5}, quarter=at(2027, 3, 9) // 900))])
    compact(database, NOW)
    add_run(database, "2027-02", "issued")
    add_day(database, day_of(2021, 3, 1))
    assert drop(database).month == "2020-03"
    assert counts(database) == {1}
    with database.reads.begin() as connection:
        assert connection.execute(select(bill_run.c.month)).scalars().all() == ["2027-02"]


def test_days_that_an_issued_bill_corrects_are_kept_with_it(database: Database) -> None:
    add_run(database, "2027-03", "issued")
    first = day_of(2026, 3, 1)
    for day in (first - 1, first, day_of(2027, 3, 1)):
        add_day(database, day)
    assert drop(database).day == first
    assert counts(database) == {2}


def test_usage_of_months_goes_after_seven_years(database: Database) -> None:
    with database.writes.begin() as connection:
        for month in (2027 * 12 + 1, 2027 * 12 + 2):
            connection.execute(usage_batteries.insert().values(month=month, owner_no=1, payload=b""))
    drop(database)
    with database.reads.begin() as connection:
        assert connection.execute(select(usage_batteries.c.month)).scalars().all() == [2027 * 12 + 2]


@pytest.mark.parametrize("state", ["issued", "draft"])
def test_runs_of_months_older_than_seven_years_go_but_for_the_one_that_a_kept_run_names(
    database: Database, state: str
) -> None:
    old = add_run(database, "2027-01", state)
    previous = add_run(database, "2027-02", "issued", old)
    newer = add_run(database, "2027-03", "issued", previous)
    drop(database)
    with database.reads.begin() as connection:
        assert set(connection.execute(select(bill_run.c.no)).scalars()) == {previous, newer}
        assert set(connection.execute(select(bill.c.run_no)).scalars()) == {previous, newer}
