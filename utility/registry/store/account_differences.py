"""Accounts that meters report and that are not theirs in the registry: a table for people, bounded for each meter."""

from collections.abc import Sequence

from sqlalchemy import Connection, select

from commonwatt.model.ids import signed64, unsigned64
from utility.database.database import count_rows, upsert
from utility.outbox.changes import ToldAccount
from utility.registry.columns import Differing
from utility.registry.tables import account_difference

MOST_OF_A_METER = 10  # accounts that are listed for one meter; further ones are counted in one row
OTHERS = -1  # the account of the row for all further ones


def count_differences(connection: Connection, found: Sequence[ToldAccount]) -> None:
    """Count records whose account differs from the registered one."""
    if not found:
        return
    which = account_difference.c.meter.in_({signed64(one.meter) for one in found})
    rows = connection.execute(select(account_difference).where(which)).mappings()
    listed: dict[int, dict[int, dict[str, int]]] = {}
    for row in rows:
        listed.setdefault(row["meter"], {})[row["told"]] = dict(row)
    for one in found:
        known = listed.setdefault(signed64(one.meter), {})
        told = one.told if one.told in known or len(known.keys() - {OTHERS}) < MOST_OF_A_METER else OTHERS
        same = {"meter": signed64(one.meter), "told": told}
        counts = known.setdefault(told, same | {"first": one.time, "last": one.time, "reports": 0})
        counts["registered"] = one.registered
        counts["first"], counts["last"] = min(counts["first"], one.time), max(counts["last"], one.time)
        counts["reports"] += 1
    statement = upsert(connection, account_difference, "registered", "first", "last", "reports")
    connection.execute(statement, [counts for known in listed.values() for counts in known.values()])


def count_of_differences(connection: Connection) -> int:
    """Return how many differences are listed."""
    return count_rows(connection, account_difference)


def account_differences(connection: Connection, limit: int, skipped: int = 0) -> list[Differing]:
    """Return at most ``limit`` differences after the first ``skipped``, newest first."""
    statement = select(account_difference).order_by(account_difference.c.last.desc(), account_difference.c.meter)
    return [
        Differing(
            **dict(row)
            | {"meter": str(unsigned64(row["meter"])), "told": "others" if row["told"] == OTHERS else row["told"]}
        )
        for row in connection.execute(statement.limit(limit).offset(skipped)).mappings()
    ]
