"""What waits for a person: slots that are requested, by pages, and counts of all kinds."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, literal, select, tuple_

from commonwatt.model.units import Quarter
from utility.billing.store.billing import count_runs
from utility.billing.store.entries import count_entered
from utility.corrections.store.checking import count_open
from utility.corrections.store.corrections import count_proposed
from utility.corrections.store.listed import MAX_BLOCKS, Page, block_of, series_of
from utility.database.database import Database
from utility.readings.store.quarantine import count_quarantined
from utility.readings.tables import gap
from utility.registry.store.account_differences import count_of_differences
from utility.registry.store.spared import spared_places
from utility.registry.tables import meter
from utility.research.store import count_releases
from utility.tariffs.store.tariffs import count_proposals


@dataclass(frozen=True, kw_only=True)
class Gaps:
    """Quarter-hours in a row of one meter and record type with slots that are requested."""

    microgrid: str  # the microgrid
    meter: str  # the meter's id
    record_type: int  # the record type
    first: Quarter  # the first quarter
    until: Quarter  # the quarter after the last
    slots: int  # slots that are requested
    absent: int  # slots that the gateway reported not to have
    asked: int  # most requests of a quarter-hour
    next_time: int  # the earliest time of the next request


def counts(database: Database) -> dict[str, int]:
    """Return how much waits for a person: readings, corrections (quarter-hours), findings, gaps, accounts, and more.

    The kinds that a person decides are ``utility.overview.inbox.DECISIONS``.
    """
    with database.reads.begin() as connection:
        runs = count_runs(connection)
        return {
            "drafts": runs.get("draft", 0),
            "checked": runs.get("checked", 0),
            "entries": count_entered(connection),
            "tariffs": count_proposals(connection),
            "requests": count_releases(connection, "asked"),
            "releases": count_releases(connection, "waiting"),
            "spared": sum(each.wanted is not None for each in spared_places(connection).values()),
            "readings": count_quarantined(connection),
            "corrections": count_proposed(connection),
            "findings": sum(count_open(connection).values()),
            "gaps": connection.execute(select(func.count()).select_from(gap).where(gap.c.is_open)).scalar_one(),
            "accounts": count_of_differences(connection),
        }


def gaps_page(connection: Connection, meter_no: int | None, limit: int, after: str = "") -> Page:
    """Return gaps that are requested, by meter and time; arguments as those of ``corrections_page``."""
    c = gap.c
    statement = select(gap, meter.c.label, meter.c.microgrid).join(meter, meter.c.no == c.meter_no).where(c.is_open)
    if meter_no is not None:
        statement = statement.where(c.meter_no == meter_no)
    if after:
        block = tuple_(*map(literal, block_of(after)))
        statement = statement.where(tuple_(c.meter_no, c.record_type, c.quarter) > block)
    statement = statement.order_by(c.meter_no, c.record_type, c.quarter).limit(MAX_BLOCKS + 1)
    lines: list[Gaps] = []
    last: tuple[int, int, int] | None = None
    for n, row in enumerate(connection.execute(statement)):
        is_next = last is not None and series_of(row) == (*last[:2], last[2] + 1)
        if n == MAX_BLOCKS or (not is_next and len(lines) == limit):
            return Page(rows=lines, after=".".join(map(str, last or ())))
        lines[len(lines) - is_next :] = [_joined(lines[-1] if is_next else None, row)]
        last = series_of(row)
    return Page(rows=lines, after="")


def _joined(before: Gaps | None, row: Any) -> Gaps:
    slots, absent = (row.mask & ~row.absent).bit_count(), row.absent.bit_count()
    return Gaps(
        microgrid=row.microgrid,
        meter=row.label,
        record_type=row.record_type,
        first=row.quarter if before is None else before.first,
        until=row.quarter + 1,
        slots=slots + (before.slots if before else 0),
        absent=absent + (before.absent if before else 0),
        asked=max(row.asked, before.asked if before else 0),
        next_time=min(row.next_time, before.next_time) if before else row.next_time,
    )
