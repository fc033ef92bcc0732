"""The job that counts the completeness of finished days, so that pages add up days instead of reading blocks."""

from collections.abc import Callable

from commonwatt.model.units import EpochSeconds
from utility.database.database import Database
from utility.jobs.store.due import MarkedDay
from utility.jobs.store.job_leases import Turn
from utility.jobs.threads import Threads
from utility.overview.store.days import DayCount, mark_finished, marked_days, save_counts
from utility.readings.store.completeness import Completeness
from utility.readings.store.parts import chunks
from utility.registry.layout import Day

FINISHED_S = 3_600  # seconds after a day's end before it is counted: its last readings are still on their way
QUARTERS_AT_A_TIME = 8  # quarters read in a step, so that other jobs' threads and readers wait only briefly
OWNERS_AT_A_TIME = 100  # microgrids stored in one transaction


class CompletenessJob:
    """Counts on the jobs' thread, and writes on the thread for writes."""

    def __init__(self, database: Database, threads: Threads, *, is_trusted: Callable[[], bool]) -> None:
        self._database = database
        self._is_trusted = is_trusted
        self._threads = threads

    async def run(self, turn: Turn) -> None:
        """Count what is marked of the days that are over; it waits for a trusted clock."""
        if not self._is_trusted():
            return
        until = (turn.now - FINISHED_S) // 86_400
        await self._threads.write(self._database.write, mark_finished, until)
        due: dict[Day, list[MarkedDay]] = await self._threads.read(self._database.read, marked_days, until)
        for day, marked in due.items():
            await self._count(day, marked, turn.now)

    async def _count(self, day: Day, marked: list[MarkedDay], now: EpochSeconds) -> None:
        counting = DayCount(self._database, day, marked)
        for some in chunks(counting.quarters, QUARTERS_AT_A_TIME):
            await self._threads.read(counting.add, some)
        found: dict[int, Completeness] = await self._threads.read(counting.whole)
        for group in chunks(marked, OWNERS_AT_A_TIME):
            for one in group:
                if one.owner_no not in found:
                    found[one.owner_no] = await self._threads.read(counting.slot_by_slot, one.owner_no)
            counts = [(one, found[one.owner_no]) for one in group]
            await self._threads.write(self._database.write, save_counts, counts, now)
