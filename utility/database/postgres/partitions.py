"""Monthly partitions of ``compacted`` on PostgreSQL: made on demand, dropped whole.

There is no default partition: its rows would block the making of their month's partition; so months are made first.
SQLite has no partitions; there, ``make_partitions`` does nothing.
"""

from collections.abc import Iterable
from datetime import UTC, datetime

from sqlalchemy import Connection, text

from commonwatt.model.units import QUARTER_S, EpochSeconds, Quarter
from utility.database.engines import Lock, take

_IS_THERE = text("SELECT 1 FROM pg_class WHERE relname = :name AND relnamespace = current_schema()::regnamespace")

Month = tuple[int, int]  # (year, month), UTC


def month_of(quarter: Quarter) -> Month:
    """Return the month in which a quarter begins."""
    begin = datetime.fromtimestamp(quarter * QUARTER_S, UTC)
    return begin.year, begin.month


def months_later(month: Month, number: int) -> Month:
    """Return the month ``number`` months later, or earlier if ``number`` is negative."""
    months = month[0] * 12 + month[1] - 1 + number
    return months // 12, months % 12 + 1


def first_quarter(month: Month) -> Quarter:
    """Return the first quarter of a month."""
    return int(datetime(*month, 1, tzinfo=UTC).timestamp()) // QUARTER_S


def make_partitions(connection: Connection, months: Iterable[Month]) -> None:
    """Make missing partitions, without delaying readers or writers.

    Until the transaction ends it locks out other processes that make partitions.
    """
    if connection.dialect.name != "postgresql":
        return
    missing = [month for month in sorted(set(months)) if not _is_there(connection, month)]
    if missing:
        take(connection, Lock.PARTITIONS)
    for month in missing:
        if not _is_there(connection, month):
            first, end = first_quarter(month), first_quarter(months_later(month, 1))
            # Made separately and then attached: `CREATE TABLE ... PARTITION OF` would wait for all readers.
            connection.exec_driver_sql(f"CREATE TABLE {_name(month)} (LIKE compacted INCLUDING ALL)")
            # Nearly all rows are added at the end, so free space within the pages would stay empty.
            connection.exec_driver_sql(f"ALTER INDEX {_name(month)}_pkey SET (fillfactor = 100)")
            connection.exec_driver_sql(
                f"ALTER TABLE compacted ATTACH PARTITION {_name(month)} FOR VALUES FROM ({first}) TO ({end})"
            )


def partitions(connection: Connection) -> list[Month]:
    """Return the months that have a partition, oldest first."""
    children = text("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'compacted'::regclass")
    names = connection.execute(children).scalars()
    return sorted((int(year), int(month)) for year, month in (name.split("_")[-2:] for name in names))


def drop_partition(connection: Connection, month: Month) -> None:
    """Drop a month's partition with its blocks."""
    connection.exec_driver_sql(f"DROP TABLE {_name(month)}")


def months_around(now: EpochSeconds) -> list[Month]:
    """Return the months whose partitions are made ahead: the present one and the next."""
    present = month_of(now // QUARTER_S)
    return [present, months_later(present, 1)]


def _name(month: Month) -> str:
    return f"compacted_{month[0]:04}_{month[1]:02}"


def _is_there(connection: Connection, month: Month) -> bool:
    # Not `to_regclass`, whose cache may be older than the wait for the lock.
    return connection.execute(_IS_THERE, {"name": _name(month)}).first() is not None
