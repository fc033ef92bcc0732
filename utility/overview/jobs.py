"""The job that counts the completeness of finished days, so that pages add up days instead of reading blocks."""

from collections.abc import Callable

from utility.database.database import Database
from utility.jobs.plans import Threads
from utility.jobs.store import MarkedDay, Turn
from utility.overview.store.days import DayCount, mark_finished, marked_days, save_counts
from utility.readings.store.completeness import Completeness
from utility.readings.store.parts import chunks
from utility.registry.layout import Day

FINISHED_S = 3_600  # seconds after a day's end before it is counted: its last readings are still on their way
QUARTERS_AT_A_TIME = 8  # quarters read in a step, so that other jobs' threads and readers wait only briefly
OWNERS_AT_A_TIME = 100  # microgrids stored in one transaction


async def count_days(database: Database, threads: Threads, is_trusted: Callable[[], bool], turn: Turn) -> None:
    """Count what is marked of the days that are over; it waits for a trusted clock."""
    if not is_trusted():
        return
    until = (turn.now - FINISHED_S) // 86_400
    await threads.write(database.write, mark_finished, until)
    due: dict[Day, list[MarkedDay]] = await threads.read(database.read, marked_days, until)
    for day, marked in due.items():
        counting = DayCount(database, day, marked)
        for some in chunks(counting.quarters, QUARTERS_AT_A_TIME):
            await threads.read(counting.add, some)
        found: dict[int, Completeness] = await threads.read(counting.whole)
        for group in chunks(marked, OWNERS_AT_A_TIME):
            for one in group:
                if one.owner_no not in found:
                    found[one.owner_no] = await threads.read(counting.slot_by_slot, one.owner_no)
            counts = [(one, found[one.owner_no]) for one in group]
            await threads.write(database.write, save_counts, counts, turn.now)
