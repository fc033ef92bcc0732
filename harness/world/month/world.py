"""A seeded world at a month's end: readings are settled and billed while they come."""

import random
from collections.abc import Mapping, Sequence
from zoneinfo import ZoneInfo

from commonwatt.model.ids import MeterId
from commonwatt.model.time.local_calendar import month_quarters
from commonwatt.model.units import QUARTER_S
from harness.world.month import money
from harness.world.month.faults import MonthFaults
from harness.world.month.utility import MonthUtility
from harness.world.world import MEASURED, TOWN, Options, World

ENDS = (("Europe/London", "2026-11"), ("Europe/Paris", "2026-11"), ("America/New_York", "2026-12"))
"""Zones and months; in London the local month ends with a day of UTC, so that its bills are due in the world."""


class MonthWorld(World):
    """One world at a month's end."""

    measured: Mapping[str, tuple[MeterId, ...]] = {
        "r001": MEASURED["r001"],
        "r002": (20001, 20002, 20004),
    }  # one imports
    utility: MonthUtility

    def __init__(self, seed: int, options: Options, unsynced: Sequence[str] = ()) -> None:
        """Make the world of a seed."""
        self.chances = random.Random(f"{seed}/month")
        name, self.month = self.chances.choice((ENDS[0], ENDS[0], *ENDS))
        self.zone = ZoneInfo(name)
        self.month_end = month_quarters(self.month, self.zone)[1]  # the first quarter of the next month
        self.start = self.month_end * QUARTER_S - self.chances.choice((300, 900, 1500))
        self.town_file = f'{TOWN}\n[town]\ntimezone = "{name}"'
        # When a resident moves: often with the month.
        self.moved = self.month_end + self.chances.choice((-1, 0, 0, 1))
        self.finished: set[tuple[int, str, str]] = set()  # (past of the database, job, period) done
        super().__init__(seed, options, unsynced)

    def make_utility(self) -> MonthUtility:
        """Return the utility, which settles and bills."""
        return MonthUtility(self, self.town, self.head_end)

    def make_faults(self) -> MonthFaults:
        """Return the faults."""
        return MonthFaults(self)

    def check(self) -> None:
        """Check the end, also the bills."""
        super().check()
        money.check(self)
