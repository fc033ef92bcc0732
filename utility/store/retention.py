"""Readings older than the utility keeps them are dropped: whole months on PostgreSQL, by and by on SQLite.

What is dropped is not looked for again. Should it come all the same, it is taken in, acknowledged
and dropped again. Events, dead letters and the registry stay.
"""

import logging

from sqlalchemy import Connection, delete, func, select, text
from sqlalchemy.exc import OperationalError

from commonwatt.model.units import QUARTER_S, EpochSeconds, Quarter
from utility.store.database import Database, read_setting, save_setting
from utility.store.postgres.partitions import (
    drop_partition,
    first_quarter,
    make_partitions,
    month_of,
    months_around,
    months_later,
    partitions,
)
from utility.store.tables import compacted, conflict_sender

log = logging.getLogger(__name__)

MAX_BLOCKS = 5_000
"""Blocks deleted in one transaction on SQLite, so that what arrives waits for a moment only."""

_LOCK_TIMEOUT = "2s"
"""How long the drop of a month waits for readers; new readers wait as long for it."""

_LOCK_NOT_AVAILABLE = "55P03"

KEPT_FROM = "kept_from"
"""Setting: the first quarter that is kept."""

_DELETE = text(
    "DELETE FROM compacted WHERE rowid IN (SELECT rowid FROM compacted WHERE quarter < :first LIMIT :number)"
)


class Retention:
    """Drops what is old in one database; ``plan`` reads, ``apply`` writes."""

    def __init__(self, database: Database, keep_months: int) -> None:
        self._database = database
        self._keep_months = keep_months

    def plan(self, now: EpochSeconds) -> Quarter | None:
        """Return the first quarter to be kept: of the month ``keep_months`` before this one.

        Counted from the newest reading if that is older than now: a clock that is years ahead drops nothing.
        ``None``: nothing is there.
        """
        with self._database.reads.begin() as connection:
            newest = connection.execute(select(func.max(compacted.c.quarter))).scalar()
        if newest is None:
            return None
        month = month_of(min(newest, now // QUARTER_S))
        return first_quarter(months_later(month, -self._keep_months))

    def apply(self, first: Quarter) -> bool:
        """Drop something of what is older than ``first``; tell whether more is left that can be dropped now."""
        with self._database.writes.begin() as connection:
            # Once the limit is stored, readers skip what is dropped or waits to be dropped.
            save_setting(connection, KEPT_FROM, str(max(first, kept_from(connection))))
            connection.execute(delete(conflict_sender).where(conflict_sender.c.quarter < first))
        try:
            with self._database.writes.begin() as connection:
                if connection.dialect.name == "postgresql":
                    return _drop_month(connection, first)
                return connection.execute(_DELETE, {"first": first, "number": MAX_BLOCKS}).rowcount == MAX_BLOCKS
        except OperationalError as error:
            if getattr(error.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
                raise
            # To try again soon would keep new readers waiting.
            log.warning("readings older than keep_months are not dropped now, since they are being read; they will be")
            return False


def make_ahead(database: Database, now: EpochSeconds) -> None:
    """Make the partitions of this month and the next, before anybody waits for them."""
    with database.writes.begin() as connection:
        make_partitions(connection, months_around(now))


def kept_from(connection: Connection) -> Quarter:
    """Return the first quarter that is kept; what is older was dropped, or will be."""
    return int(read_setting(connection, KEPT_FROM) or 0)


def _drop_month(connection: Connection, first: Quarter) -> bool:
    old = [month for month in partitions(connection) if month < month_of(first)]
    if old:
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
        drop_partition(connection, old[0])
    return len(old) > 1
