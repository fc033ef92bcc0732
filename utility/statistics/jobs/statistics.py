"""The job of statistics: takes the days that were settled into the months' usage, oldest first (U6, A7).

A microgrid's month is computed whole from its settled days, so that a repeated run, or one after a kill, changes
nothing. Marks are deleted after everything that they touch is stored.
"""

from collections.abc import Callable, Sequence
from typing import Any

from commonwatt.model.units import EpochSeconds
from utility.database.database import Database
from utility.jobs.store.job_leases import Turn
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
from utility.statistics.store.usage_due import DueUsage, due_usage, oldest_due, unmark_usage

METERS_AT_A_TIME = 400
"""Meters that are taken in at once, eight days in memory at a time, unless one microgrid has more: about 20 MB."""


class StatisticsJob:
    """Computes what is due on the jobs' thread, and writes on the one for writes."""

    def __init__(
        self,
        database: Database,
        threads: Threads,
        *,
        tell: Callable[[Month, int], object] = lambda _, __: None,
    ) -> None:
        self._database = database
        self._threads = threads
        self._tell = tell

    async def run(self, turn: Turn) -> None:
        """Take in everything that is due, a month after the other."""
        town: TownUsage | None = None
        while due := await self._threads.read(self._due, town):
            if town is None:
                town = await self._threads.read(self._town)
            await self._take_in(town, due, turn.now)

    async def _take_in(self, town: TownUsage, due: Sequence[DueUsage], now: EpochSeconds) -> None:
        known = [one for one in due if one.owner_no in town.owners]
        months: dict[Month, set[int]] = {}
        days: dict[Day, list[int]] = {}
        for one in known:
            days.setdefault(one.day, []).append(one.owner_no)
            for month in months_of_day(one.day, town.zone):
                months.setdefault(month, set()).add(one.owner_no)
        for day, some in days.items():
            found: DayUsage = await self._threads.read(self._read, day_usage, town, day)
            await self._threads.write(self._write, save_day_usage, town, found, some)
        for month, owners in sorted(months.items()):
            self._tell(month, len(owners))
            for chunk in _chunks(sorted(owners), town):
                rows = await self._threads.read(self._read, microgrid_rows, town, chunk, month, now)
                await self._threads.write(self._write, save_microgrid_rows, chunk, month, rows)
            await self._threads.write(self._write, refresh_classes, town, month, now)
        await self._threads.write(self._write, unmark_usage, due)

    def _town(self) -> TownUsage:
        with self._database.reads.begin() as connection:
            return load_town_usage(connection)

    def _due(self, town: TownUsage | None) -> list[DueUsage]:
        """Return what is due of the days of the oldest month that has any."""
        with self._database.reads.begin() as connection:
            oldest = oldest_due(connection)
            if oldest is None:
                return []
            zone = (town or load_town_usage(connection)).zone
            until = columns_of(months_of_day(oldest, zone)[-1], zone).days.stop
            return due_usage(connection, until)

    def _read(self, work: Callable[..., Any], *arguments: object) -> Any:
        with self._database.reads.begin() as connection:
            return work(connection, *arguments)

    def _write(self, work: Callable[..., Any], *arguments: object) -> None:
        with self._database.writes.begin() as connection:
            work(connection, *arguments)


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
