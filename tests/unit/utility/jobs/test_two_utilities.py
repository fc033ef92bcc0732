"""Each local day and month is done once, in order, though two utilities are killed and stay down for months.

Years pass in each zone, which the worlds at a month's end have no time for.
"""

import random
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import create_engine
from sqlalchemy.pool import StaticPool

from utility.database.engines import writing
from utility.jobs.calendar_periods import LocalDay, LocalMonth, lacking
from utility.jobs.plans import UNCHANGED, Plan
from utility.jobs.store.job_leases import LEASE_S, finish, give_back, postpone, take
from utility.jobs.tables import job, period

DAY_S = 86_400
# Zones with what goes wrong with calendars, and the first day of a year in which it does.
ZONES = {
    "America/New_York": date(2015, 1, 1),
    "America/Sao_Paulo": date(2017, 6, 1),  # clocks change at midnight
    "Pacific/Apia": date(2011, 6, 1),  # 30 December 2011 never was
    "Australia/Lord_Howe": date(2015, 1, 1),  # clocks change by half an hour
}
BEGIN, UNTIL = date(2009, 1, 15), date(2019, 1, 15)


class KilledError(Exception):
    """The process was killed: nothing that it has not committed happened."""


class TwoUtilities:
    """Two utilities on one database that run one job in turns."""

    def __init__(self, plan: Plan, zone: str) -> None:
        self.done: list[str] = []  # periods whose end is committed
        self.kills = 0
        self._plan, self._rng = plan.in_force(UNCHANGED, ZoneInfo(zone)), random.Random(13)
        self._engine = writing(create_engine("sqlite://", poolclass=StaticPool))

    def live(self, now: int, end: int) -> None:
        """Let time go on by seconds or by months, in which nothing runs. The last hours are calm."""
        for table in (period, job):
            table.create(self._engine)
        self._tick(now, may_die=False)
        while now < end:
            now = min(end, now + self._rng.choice((15, LEASE_S, 3_600, DAY_S, 2 * DAY_S, 9 * DAY_S, 92 * DAY_S)))
            wrong_s = self._rng.choice((0, 0, -30, 30))
            for _ in range(self._rng.randrange(1, 4)):
                self._tick(now + wrong_s, may_die=self._rng.random() < 0.7)
        for hour in range(1, 10):
            self._tick(end + hour * 3_600, may_die=False)
        self._engine.dispose()

    def _tick(self, now: int, *, may_die: bool) -> None:
        """Have one of them do what is due, until it is killed, fails or has to wait."""
        try:
            while self._did_one(now, may_die=may_die):
                self._perhaps_die(may_die)
        except KilledError:
            self.kills += 1

    def _did_one(self, now: int, *, may_die: bool) -> bool:
        with self._engine.begin() as connection:
            turn = take(connection, self._plan, now)
        if turn is None:
            return False
        self._perhaps_die(may_die)
        fate = self._rng.random() if may_die else 1.0
        with self._engine.begin() as connection:
            if fate < 0.02:
                give_back(connection, turn, now, "a fault")
            elif fate < 0.04:
                postpone(connection, turn, "readings", now + 3_600)
            else:
                finish(connection, turn, now, 0)
                self._perhaps_die(may_die)
        if fate >= 0.04:
            self.done.append(turn.period.name)
        return fate >= 0.04

    def _perhaps_die(self, may_die: bool) -> None:
        if may_die and self._rng.random() < 0.05:
            raise KilledError


def noon(day: date) -> int:
    """Return the noon UTC of a day."""
    return int(datetime(day.year, day.month, day.day, 12, tzinfo=UTC).timestamp())


def wanted_days(zone: str, begin: date, until: date) -> list[str]:
    """Return the local days that are over between noon UTC of a day and the midnight UTC of another."""
    there = ZoneInfo(zone)
    day, last = (datetime.fromtimestamp(at, there).date() for at in (noon(begin), noon(until) - DAY_S // 2))
    days = [day + timedelta(days=n) for n in range((last - day).days)]
    # A day that a zone left out has no noon.
    noons = {day: datetime(day.year, day.month, day.day, 12, tzinfo=there) for day in days}
    return [str(day) for day in days if noons[day].astimezone(UTC).astimezone(there).date() == day]


@pytest.mark.parametrize("zone", ZONES)
def test_years_of_months_and_days_are_done_once_in_order(zone: str) -> None:  # req: A9
    begin = ZONES[zone]
    until = begin.replace(year=begin.year + 1)
    months = TwoUtilities(Plan(name="months", does="", cadence=LocalMonth(), catch_up=True, minute=90), zone)
    months.live(noon(BEGIN), noon(UNTIL) - DAY_S)
    assert months.done == [f"{2009 + n // 12}-{n % 12 + 1:02}" for n in range(120)]
    days = TwoUtilities(Plan(name="days", does="", cadence=LocalDay(), catch_up=True, minute=90), zone)
    days.live(noon(begin), noon(until) - DAY_S)
    assert days.done == wanted_days(zone, begin, until)
    assert min(months.kills, days.kills) > 5


@pytest.mark.parametrize("zone", ZONES)
def test_ten_years_of_days_are_found_however_seldom_a_utility_looks(zone: str) -> None:
    rng, cadence, now, end = random.Random(13), LocalDay(ZoneInfo(zone)), noon(BEGIN), noon(UNTIL) - DAY_S // 2
    found = lacking(cadence, None, now, catch_up=True)
    while now < end:
        now = min(end, now + rng.choice((15, 3_600, 9 * DAY_S, 92 * DAY_S)))
        found += lacking(cadence, found[-1], now, catch_up=True)
    assert [one.name for one in found if one.end <= end] == wanted_days(zone, BEGIN, UNTIL)
