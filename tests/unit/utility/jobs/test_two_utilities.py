"""Each local day and month is done once, in order, though two utilities are killed and stay down for months.

The whole ten years of days: ``python -m harness.worlds.two_utilities``.
"""

import random
from datetime import date
from zoneinfo import ZoneInfo

import pytest

from harness.worlds.two_utilities import DAYS, MONTHS, ZONES, TwoUtilities, wanted_days
from utility.jobs.calendar_periods import LocalDay, lacking

BEGIN, UNTIL = date(2009, 1, 15), date(2019, 1, 15)


@pytest.mark.parametrize("zone", ZONES)
def test_ten_years_of_months_are_done_once_in_order(zone: str) -> None:  # req: A9
    town = TwoUtilities(MONTHS, zone, BEGIN, seed=13)
    town.live(UNTIL)
    assert town.kills > 5
    assert town.results() == [f"{2009 + n // 12}-{n % 12 + 1:02}" for n in range(120)]


@pytest.mark.parametrize("zone", ZONES)
def test_a_year_of_days_with_the_zones_own_trouble_is_done_once_in_order(zone: str) -> None:
    begin = ZONES[zone]
    until = date(begin.year + 1, begin.month, begin.day)
    town = TwoUtilities(DAYS, zone, begin, seed=13)
    town.live(until)
    assert town.kills > 5
    assert town.results() == wanted_days(zone, begin, until)


@pytest.mark.parametrize("zone", ZONES)
def test_ten_years_of_days_are_found_however_seldom_a_utility_looks(zone: str) -> None:
    rng, cadence = random.Random(13), LocalDay(ZoneInfo(zone))
    now = TwoUtilities(DAYS, zone, BEGIN, seed=1).now
    end = TwoUtilities(DAYS, zone, UNTIL, seed=1).now - 12 * 3_600
    found = lacking(cadence, None, now, catch_up=True)
    while now < end:
        now = min(end, now + rng.choice((15, 3_600, 9 * 86_400, 92 * 86_400)))
        found += lacking(cadence, found[-1], now, catch_up=True)
    assert [one.name for one in found if one.end <= end] == wanted_days(zone, BEGIN, UNTIL)
