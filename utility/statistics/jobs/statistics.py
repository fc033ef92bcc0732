"""The job of statistics: takes the days that were settled into the months' usage, oldest first (U6, A7).

A microgrid's month is computed whole from its settled days, so that a repeated run, or one after a kill, changes
nothing. Marks are deleted after everything that they touch is stored.
"""

from collections.abc import Callable, Sequence

from utility.database.base import Connection
from utility.database.database import Database
from utility.database.town_zone import zone_of
from utility.jobs.store.due import MarkedDay, unmark
from utility.jobs.store.job_leases import Turn
from utility.jobs.tables import usage_due
from utility.jobs.threads import Threads
from utility.registry.layout import Day
from utility.statistics.months import Month, columns_of, months_of_day
from utility.statistics.store.usage import (
    DayUsage,
    TownUsage,
    day_usage,
    load_town_usage,
    microgrid_rows,
    refresh_classes,
    save_day_usage,
    save_microgrid_rows,
)
from utility.statistics.store.usage_due import due_usage, oldest_due

METERS_AT_A_TIME = 400
"""Meters that are taken in at once, eight days in memory at a time, unless one microgrid has more: about 20 MB."""


async def take_in(
    database: Database, threads: Threads, turn: Turn, tell: Callable[[Month], object] = lambda _: None
) -> None:
    """Take in everything that is due, a month after the other; ``tell`` is called with each month.

    It computes on the jobs' thread, and writes on the one for writes.
    """
    town: TownUsage | None = None
    while due := await threads.read(database.read, _due, town):
        if town is None:
            town = await threads.read(database.read, load_town_usage)
        known = [one for one in due if one.owner_no in town.owners]
        months: dict[Month, set[int]] = {}
        days: dict[Day, list[int]] = {}
        for one in known:
            days.setdefault(one.day, []).append(one.owner_no)
            for month in months_of_day(one.day, town.zone):
                months.setdefault(month, set()).add(one.owner_no)
        for day, some in days.items():
            found: DayUsage = await threads.read(database.read, day_usage, town, day)
            await threads.write(database.write, save_day_usage, town, found, some)
        for month, owners in sorted(months.items()):
            tell(month)
            for chunk in _chunks(sorted(owners), town):
                rows = await threads.read(database.read, microgrid_rows, town, chunk, month, turn.now)
                await threads.write(database.write, save_microgrid_rows, chunk, month, rows)
            await threads.write(database.write, refresh_classes, town, month, turn.now)
        await threads.write(database.write, unmark, usage_due, due)


def _due(connection: Connection, town: TownUsage | None) -> list[MarkedDay]:
    """Return what is due of the days of the oldest month that has any."""
    oldest = oldest_due(connection)
    if oldest is None:
        return []
    zone = zone_of(connection) if town is None else town.zone
    return due_usage(connection, columns_of(months_of_day(oldest, zone)[-1], zone).days.stop)


def _chunks(owners: Sequence[int], town: TownUsage) -> list[list[int]]:
    """Return the microgrids in parts of about ``METERS_AT_A_TIME`` meters."""
    found: list[list[int]] = [[]]
    count = 0
    for number in owners:
        meters = len(town.owners[number].meters)
        if found[-1] and count + meters > METERS_AT_A_TIME:
            found.append([])
            count = 0
        found[-1].append(number)
        count += meters
    return found
