"""Drops readings older than ``keep_months``: whole months on PostgreSQL, in small steps on SQLite.

Dropped readings are not requested again. If they still arrive, they are accepted, acknowledged and dropped again.
Dead letters go with them, also those that still wait for a decision: a release could not bring such readings back. Dead
letters that a person decided on, events and the registry are kept.
"""

import logging

from sqlalchemy import Connection, Integer, bindparam, delete, exists, func, select, text
from sqlalchemy.exc import OperationalError

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import QUARTER_S, EpochSeconds, MeterId, Quarter, signed64
from commonwatt.protocol.dead_letters import LocalReason
from utility.database.checks import row_crc
from utility.database.database import Database, read_setting, save_setting
from utility.database.postgres.partitions import (
    drop_partition,
    first_quarter,
    make_partitions,
    month_of,
    months_around,
    months_later,
    partitions,
)
from utility.energy.quarters import QUARTERS_A_DAY
from utility.jobs.store import first_to_settle
from utility.readings.store.batches import execute, fresh
from utility.readings.store.parts import QUARTERS_AT_A_TIME, chunks
from utility.readings.store.quarantine import QUARANTINED
from utility.readings.tables import compacted, conflict_sender, dead_letter, quarantined, series
from utility.registry.tables import meter

log = logging.getLogger(__name__)

# Most blocks (on SQLite), and most dead letters, deleted in one transaction: arriving batches wait only briefly.
MAX_BLOCKS = 5_000
LOCK_TIMEOUT = "2s"  # longest wait of a month's drop for readers; new readers wait for it as long

LOCK_NOT_AVAILABLE = "55P03"

KEPT_FROM = "kept_from"  # setting with the first quarter that is kept

_DELETE = text(
    "DELETE FROM compacted WHERE rowid IN (SELECT rowid FROM compacted WHERE quarter < :first LIMIT :number)"
)


class Retention:
    """Drops old readings in one database; ``plan`` reads, ``apply`` writes."""

    def __init__(self, database: Database, keep_months: int) -> None:
        self._database = database
        self._keep_months = keep_months

    def plan(self, now: EpochSeconds) -> Quarter | None:
        """Return the first quarter to keep: the start of the month ``keep_months`` before the present one.

        If the newest reading is older than ``now``, its month counts: a clock that is years ahead drops nothing.
        Months with a day that is still to be settled are kept, and with the levels before it. ``None``: there are no
        compacted readings.
        """
        with self._database.reads.begin() as connection:
            newest = newest_quarter(connection)
            unsettled = first_to_settle(connection, kept_from(connection) // QUARTERS_A_DAY)
        if newest is None:
            return None
        first = first_quarter(months_later(month_of(min(newest, now // QUARTER_S)), -self._keep_months))
        return first if unsettled is None else min(first, first_quarter(month_of(unsettled * QUARTERS_A_DAY - 1)))

    def apply(self, first: Quarter) -> bool:
        """Drop a part of the readings before ``first``; return whether more can be dropped now."""
        with self._database.writes.begin() as connection:
            # Once the limit is stored, readers skip the readings before it.
            save_setting(connection, KEPT_FROM, str(max(first, kept_from(connection))))
            connection.execute(delete(conflict_sender).where(conflict_sender.c.quarter < first))
            # A letter's time may be of a clock that was not set yet; what waits for that clock waits on.
            kept = exists().where(quarantined.c.letter_no == dead_letter.c.no, quarantined.c.quarter >= first)
            waits = (dead_letter.c.state == QUARANTINED) & (dead_letter.c.reason != LocalReason.AHEAD) & ~kept
            is_old = ((dead_letter.c.state == "") | waits) & (dead_letter.c.time < first * QUARTER_S)
            old = select(dead_letter.c.no).where(is_old).limit(MAX_BLOCKS)
            some = [{"letter": no} for no in connection.execute(old).scalars()]
            if some:
                connection.execute(delete(quarantined).where(quarantined.c.letter_no == bindparam("letter")), some)
                connection.execute(delete(dead_letter).where(dead_letter.c.no == bindparam("letter")), some)
            letters = len(some)
        try:
            with self._database.writes.begin() as connection:
                if connection.dialect.name == "postgresql":
                    more = _drop_month(connection, first)
                else:
                    deleted = connection.execute(_DELETE, {"first": first, "number": MAX_BLOCKS}).rowcount
                    more = deleted == MAX_BLOCKS
                return more or letters == MAX_BLOCKS
        except OperationalError as error:
            if getattr(error.orig, "sqlstate", None) != LOCK_NOT_AVAILABLE:
                raise
            # An immediate retry would delay new readers again.
            log.warning("readings older than keep_months are being read; they will be dropped at the job's next run")
            return letters == MAX_BLOCKS


def newest_quarter(connection: Connection) -> Quarter | None:
    """Return the newest quarter that was compacted; ``None``: there is none."""
    return connection.execute(select(func.max(compacted.c.quarter))).scalar()


def make_ahead(database: Database, now: EpochSeconds) -> None:
    """Make the partitions of this month and the next, before they are needed."""
    database.write(make_partitions, months_around(now))


def kept_from(connection: Connection) -> Quarter:
    """Return the first quarter that is kept; older ones were dropped, or will be."""
    return int(read_setting(connection, KEPT_FROM) or 0)


def _drop_month(connection: Connection, first: Quarter) -> bool:
    old = [month for month in partitions(connection) if month < month_of(first)]
    if old:
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
        drop_partition(connection, old[0])
    return len(old) > 1


def register_replacement(connection: Connection, old: MeterId, new: MeterId) -> None:
    """Register a meter like the one that it replaces, unless it is registered already.

    Its address is the old one's, until the town file gives it its own.

    Raises:
        ConfigError: It is registered as another kind of meter.
    """
    rows = {row["id"]: dict(row) for row in connection.execute(select(meter)).mappings()}
    made = rows[signed64(old)] | {"id": signed64(new), "label": str(new)}
    del made["no"], made["crc"]
    known = rows.get(signed64(new))
    if known is None:
        connection.execute(meter.insert().values(**made, crc=row_crc(meter, made)))
        return
    for column in ("microgrid", "function", "direction"):
        if known[column] != made[column]:
            other = f"meter {new} is registered with {column} {known[column]}, and meter {old} with {made[column]}"
            raise ConfigError(f"{other}: it can't take its place")


def count_blocks(connection: Connection, which: MeterId, since: Quarter, until: Quarter | None = None) -> int:
    """Return how many quarters of a meter are stored from one on and before another one."""
    number = connection.execute(select(meter.c.no).where(meter.c.id == signed64(which))).scalar() or 0
    first = connection.execute(_FIRST, {"number": number}).scalar()
    if first is None:
        return 0
    newest = newest_quarter(connection)
    end = 0 if newest is None else newest + 1 if until is None else min(newest + 1, until)
    found: set[Quarter] = set()
    for some in chunks(range(max(since, first, kept_from(connection)), end), QUARTERS_AT_A_TIME):
        rows = connection.execute(_COMPACTED, {"number": number, "quarters": some})
        found |= set(rows.scalars())
    waiting = execute(connection, _FRESH, {"number": number}, meters=[number]).scalars()
    return len(found | {quarter for quarter in waiting if since <= quarter and (until is None or quarter < until)})


_NUMBER = bindparam("number", type_=Integer)
_FIRST = select(func.min(series.c.first_quarter)).where(series.c.meter_no == _NUMBER)
# Each quarter is a lookup, since the key begins with it: a condition on the meter alone would read the whole town.
_COMPACTED = select(compacted.c.quarter).where(
    compacted.c.quarter.in_(bindparam("quarters", expanding=True)), compacted.c.meter_no == _NUMBER
)
_FRESH = select(fresh.c.quarter).where(fresh.c.meter_no == _NUMBER)
