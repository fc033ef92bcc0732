"""Runs the work of the utility's jobs at once."""

from utility.store.compactor import Compactor
from utility.store.database import Database
from utility.store.gap_finder import GapFinder


def compact(database: Database, now: int) -> int:
    """Compact until nothing is left; return how many blocks that made."""
    compactor = Compactor(database)
    made = 0
    while (replacement := compactor.plan(now)) is not None:
        made += compactor.apply(replacement)
    return made


def find_gaps(database: Database, now: int, age_s: int = 0) -> None:
    """Look for gaps until all is looked through."""
    finder = GapFinder(database)
    more = True
    while more:
        run = finder.plan(now, age_s)
        finder.apply(run, now)
        more = run.more
