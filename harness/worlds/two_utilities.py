"""Two utilities on one database, which are killed, stay down for months and have wrong clocks, for any length of time.

The clock is virtual, the database real: SQLite in memory. ``python -m harness.worlds.two_utilities`` plays ten years in
each zone, and prints the figures.
"""

import random
import time
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import Column, Integer, MetaData, String, Table, create_engine, select
from sqlalchemy.pool import StaticPool

from harness.worlds.opened import opened
from utility.database.engines import writing
from utility.jobs.calendar_periods import LocalDay, LocalMonth
from utility.jobs.plans import UNCHANGED, Plan
from utility.jobs.store.job_leases import LEASE_S, Turn, finish, give_back, postpone, take
from utility.jobs.tables import job, period

RESULT = Table(
    "result", MetaData(), Column("no", Integer, primary_key=True), Column("job", String(8)), Column("name", String(32))
)
DAY_S = 86_400
ZONES = {
    "America/New_York": date(2015, 1, 1),
    "America/Sao_Paulo": date(2017, 6, 1),  # clocks change at midnight
    "Pacific/Apia": date(2011, 6, 1),  # 30 December 2011 never was
    "Australia/Lord_Howe": date(2015, 1, 1),  # clocks change by half an hour
}
"""Zones with what goes wrong with calendars, and the first day of a year in which it does."""

DAYS = Plan(name="days", does="", cadence=LocalDay(), catch_up=True, minute=90)
MONTHS = Plan(name="months", does="", cadence=LocalMonth(), catch_up=True, minute=90)


class KilledError(Exception):
    """The process was killed: nothing that it has not committed happened."""


class TwoUtilities:
    """Two utilities that run one job in turns."""

    def __init__(self, plan: Plan, zone: str, begin: date, seed: int) -> None:
        """Begin at noon UTC of a day.

        Args:
            plan: The job.
            begin: The day.
            seed: Of all that happens by chance.
        """
        self._engine = writing(create_engine("sqlite://", poolclass=StaticPool))
        opened.append(self._engine.dispose)
        with self._engine.begin() as connection:
            for table in (period, job, RESULT):
                table.create(connection)
        self._plan = plan.in_force(UNCHANGED, ZoneInfo(zone))
        self._rng = random.Random(seed)
        self.now = int(datetime(begin.year, begin.month, begin.day, 12, tzinfo=UTC).timestamp())  # the time
        self.kills = 0  # how often one of them was killed

    def live(self, until: date) -> None:
        """Let time go on to a day: by seconds or by months, in which nothing runs. The last hours are calm."""
        end = int(datetime(until.year, until.month, until.day, tzinfo=UTC).timestamp()) - DAY_S // 2
        self._tick(self.now)
        while self.now < end:
            leap = self._rng.choice((15, LEASE_S, 3_600, DAY_S, 2 * DAY_S, 9 * DAY_S, 92 * DAY_S))
            self.now = min(end, self.now + leap)
            wrong_s = self._rng.choice((0, 0, -30, 30))
            for _ in range(self._rng.randrange(1, 4)):
                self._tick(self.now + wrong_s, may_die=self._rng.random() < 0.7)
        for _ in range(9):
            self.now += 3_600
            self._tick(self.now)

    def results(self) -> list[str]:
        """Return the periods with a result, in the order of writing."""
        with self._engine.begin() as connection:
            return list(connection.execute(select(RESULT.c.name).order_by(RESULT.c.no)).scalars())

    def _tick(self, now: int, *, may_die: bool = False) -> None:
        """Have one of the utilities do what is due."""
        try:
            while (turn := self._take(now)) is not None and self._do(turn, now, may_die=may_die):
                pass
        except KilledError:
            self.kills += 1

    def _take(self, now: int) -> Turn | None:
        with self._engine.begin() as connection:
            return take(connection, self._plan, now)

    def _do(self, turn: Turn, now: int, *, may_die: bool) -> bool:
        self._perhaps_die(may_die)
        fate = self._rng.random() if may_die else 1.0
        with self._engine.begin() as connection:
            if fate < 0.02:
                give_back(connection, turn, now, "a fault")
                return False
            if fate < 0.04:
                postpone(connection, turn, "readings", now + 3_600)
                return False
            connection.execute(RESULT.insert().values(job=turn.job, name=turn.period.name))
            self._perhaps_die(may_die)
            finish(connection, turn, now, 0)
        self._perhaps_die(may_die)
        return True

    def _perhaps_die(self, may_die: bool) -> None:
        if may_die and self._rng.random() < 0.05:
            raise KilledError


def wanted_days(zone: str, begin: date, until: date) -> list[str]:
    """Return the local days that are over between noon UTC of a day and the midnight UTC of another."""
    first, end = (datetime(day.year, day.month, day.day, hour, tzinfo=UTC) for day, hour in ((begin, 12), (until, 0)))
    day, last = (moment.astimezone(ZoneInfo(zone)).date() for moment in (first, end))
    days = []
    while day < last:
        # A day that a zone left out has no noon.
        noon = datetime(day.year, day.month, day.day, 12, tzinfo=ZoneInfo(zone))
        if noon.astimezone(UTC).astimezone(ZoneInfo(zone)).date() == day:
            days.append(str(day))
        day += timedelta(days=1)
    return days


def main() -> None:
    """Play ten years of local days in each zone."""
    for zone, begin in ZONES.items():
        until = date(begin.year + 10, begin.month, begin.day)
        began = time.monotonic()
        town = TwoUtilities(DAYS, zone, begin, seed=13)
        town.live(until)
        found, wanted = town.results(), wanted_days(zone, begin, until)
        lost, doubled = len(set(wanted) - set(found)), len(found) - len(set(found))
        print(
            f"{zone}: {len(wanted)} days, {town.kills} kills: {lost} lost, {doubled} doubled, "
            f"in order: {found == sorted(found)}; {time.monotonic() - began:.0f} s"
        )


if __name__ == "__main__":
    main()
