"""Run the utility's jobs to their end at once."""

from utility.database.database import Database
from utility.readings.store.compactor import Compactor
from utility.readings.store.gap_finder import GapFinder


def compact(database: Database, now: int) -> int:
    """Compact until nothing is left; return the number of compacted blocks."""
    compactor = Compactor(database)
    made = 0
    while (replacement := compactor.plan(now)) is not None:
        made += compactor.apply(replacement)
    return made


def find_gaps(database: Database, now: int, age_s: int = 0) -> None:
    """Run the gap finder until it has checked all quarters."""
    finder = GapFinder(database)
    more = True
    while more:
        run = finder.plan(now, age_s)
        finder.apply(run, now)
        more = run.more
