"""The job of validation: checks each finished day once, and proposes estimates for gaps that stay (B4).

It works microgrid by microgrid, so that steps of other jobs come between. A process that dies repeats little: what was
found or proposed before is found and proposed once.
"""

from collections.abc import Callable
from zoneinfo import ZoneInfo

from commonwatt.model.units import EpochSeconds
from utility.corrections.store.checking import Checker, close_filled, days_to_check, owners, save
from utility.corrections.store.corrections import propose
from utility.corrections.store.estimating import EstimateRules, Estimator, owners_with_gaps
from utility.corrections.validation import CheckLimits
from utility.database.base import Connection
from utility.database.database import Database
from utility.database.metrics import CountGauges
from utility.database.town_zone import zone_of
from utility.jobs.plans import Threads
from utility.jobs.store import Turn

LIMITS = CheckLimits()
LIKE_DAYS = 10  # days whose mean is the estimate by like days
LATE_S = 21_600  # seconds after a UTC day's end before it is checked: its readings are still on their way
FINAL_S = 10 * 86_400  # seconds after which a slot is estimated that no gateway answered for
BLOCKS_AT_A_TIME = 1_000  # about how many estimates are stored in one transaction

_DAY_S = 86_400


async def validate(
    database: Database,
    counted: CountGauges,
    threads: Threads,
    is_trusted: Callable[[], bool],
    turn: Turn,
    limits: CheckLimits = LIMITS,
) -> None:
    """Check the days that are over, propose estimates for final gaps, and count what is open.

    It waits for a trusted clock: with another one, days would seem to be over. It reads on the jobs' thread, and writes
    on the one for writes.
    """
    if not is_trusted():
        return
    read, write, checker = threads.read, threads.write, Checker(database, limits)
    days: range = await read(database.read, days_to_check, (turn.now - LATE_S) // _DAY_S)
    for day in days:
        for owner in await read(database.read, owners):
            found = await read(checker.judged, owner, day)
            await write(database.write, save, found, day, turn.now)
        if day == days[-1]:
            # Before the day is done, so that a process that dies here comes back to it.
            await _propose(database, threads, turn.now)
        await write(database.write, _done, checker, day, turn.now)
    await read(database.read, counted.count)


async def _propose(database: Database, threads: Threads, now: EpochSeconds) -> None:
    rules = rules_of(await threads.read(database.read, zone_of))
    estimator = Estimator(database, rules)
    for owner in await threads.read(database.read, owners_with_gaps, now, rules):
        made = await threads.read(estimator.made_for, owner, now)
        # In short transactions: commands and other jobs wait for each.
        for some in made.by_quarters(BLOCKS_AT_A_TIME) if made is not None else ():
            await threads.write(database.write, propose, some, now)


def _done(connection: Connection, checker: Checker, day: int, now: EpochSeconds) -> None:
    checker.forget(connection, day)
    close_filled(connection, now)


def rules_of(zone: ZoneInfo) -> EstimateRules:
    """Return how gaps are estimated in a town of a time zone."""
    return EstimateRules(zone=zone, days=LIKE_DAYS, final_s=FINAL_S)
