"""Local days and months divide all time, in every zone and over decades; missed periods are found once, in order."""

from datetime import UTC, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from utility.jobs.calendar_periods import (
    AHEAD_S,
    MAX_NEW,
    Cadence,
    LocalDay,
    LocalMonth,
    Period,
    Seconds,
    following,
    lacking,
)

HOUR = 3600
TIMES = st.integers(min_value=0, max_value=2**32 - 1)
ZONES = st.sampled_from(sorted(available_timezones())).map(ZoneInfo)
CADENCES: st.SearchStrategy[Cadence] = st.one_of(
    st.integers(1, 100_000).map(Seconds), ZONES.map(LocalDay), ZONES.map(LocalMonth)
)


def at(zone: str, *when: int) -> int:
    return int(datetime(*when, tzinfo=ZoneInfo(zone)).timestamp())  # type: ignore[arg-type,misc]


def from_to(cadence: Cadence, start: int, end: int) -> list[Period]:
    periods = [cadence.period_at(start)]
    while periods[-1].end <= end:
        periods.append(cadence.period_at(periods[-1].end))
    return periods


@given(CADENCES, TIMES)
def test_every_second_is_in_one_period_and_the_next_begins_where_it_ends(cadence: Cadence, time: int) -> None:
    period = cadence.period_at(time)
    assert period.start <= time < period.end
    assert cadence.period_at(period.start) == cadence.period_at(period.end - 1) == period
    after = cadence.period_at(period.end)
    assert after.start == period.end
    assert after.name > period.name
    assert following(cadence, period.end) == after
    if period.start > 0:
        assert cadence.period_at(period.start - 1).end == period.start


@given(ZONES, st.integers(1970, 2090))
def test_a_year_has_its_twelve_months_and_each_of_its_days_once(zone: ZoneInfo, year: int) -> None:
    noon = (datetime(year, 2, 1, 12, tzinfo=zone), datetime(year + 1, 1, 1, 12, tzinfo=zone))
    start, end = (int(moment.timestamp()) for moment in noon)
    months = [period.name for period in from_to(LocalMonth(zone), start, end)]
    assert months == [*(f"{year}-{month:02}" for month in range(2, 13)), f"{year + 1}-01"]
    days = from_to(LocalDay(zone), start, end)
    names = [period.name for period in days]
    assert names == sorted(set(names))
    assert all(one.end == other.start for one, other in pairwise(days))
    # Samoa, Kiribati and others left a day out when they crossed the date line.
    assert 334 <= len(names) <= 336
    assert {int(name[5:7]) for name in names} == set(range(1, 13))


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("America/New_York", (2026, 3, 8), 23),
        ("America/New_York", (2026, 11, 1), 25),
        ("America/New_York", (2026, 7, 4), 24),
        ("America/New_York", (2024, 2, 29), 24),
        ("America/Havana", (2026, 3, 8), 23),
        ("America/Sao_Paulo", (2018, 11, 4), 23),
        ("America/Sao_Paulo", (2018, 2, 17), 25),
        ("Australia/Lord_Howe", (2026, 4, 5), 24.5),
        ("Pacific/Apia", (2011, 12, 29), 24),
        ("Pacific/Apia", (2011, 12, 31), 24),
    ],
)
def test_a_day_has_the_hours_that_its_zone_gives_it(zone: str, day: tuple[int, int, int], hours: float) -> None:
    period = LocalDay(ZoneInfo(zone)).period_at(at(zone, *day, 12))
    assert (period.end - period.start) / HOUR == hours
    assert period.name == "{}-{:02}-{:02}".format(*day)


def test_a_month_begins_at_local_midnight_on_its_first_also_where_clocks_change_on_it() -> None:
    november = LocalMonth().period_at(at("America/New_York", 2026, 11, 1))
    assert november.name == "2026-11"
    assert november.start == datetime(2026, 11, 1, 4, tzinfo=UTC).timestamp()
    assert november.end == datetime(2026, 12, 1, 5, tzinfo=UTC).timestamp()
    assert LocalMonth().period_at(november.start - 1).name == "2026-10"


def test_a_new_job_begins_with_the_present_period() -> None:
    now = at("America/New_York", 2026, 11, 20, 15)
    for catch_up in (True, False):
        assert [p.name for p in lacking(LocalMonth(), None, now, catch_up=catch_up)] == ["2026-11"]


@given(CADENCES, TIMES, st.lists(st.integers(0, 40 * 86_400), max_size=8), st.booleans())
def test_however_seldom_one_looks_no_missed_period_is_lost_or_doubled(
    cadence: Cadence, begin: int, steps: list[int], is_set_back: bool
) -> None:
    now = begin
    found = lacking(cadence, None, now, catch_up=True)
    for step in steps:
        now += step
        # A clock that is set back for a while adds nothing, and takes nothing away.
        if is_set_back:
            assert lacking(cadence, found[-1], max(0, begin - step), catch_up=True) == []
        while new := lacking(cadence, found[-1], now, catch_up=True):
            assert len(new) <= MAX_NEW
            found += new
            if len(new) == MAX_NEW:
                now = found[-1].start  # enough of these
    assert found[0] == cadence.period_at(begin)
    assert all(one.end == other.start for one, other in pairwise(found))
    assert found[-1].start <= now < found[-1].end


@given(CADENCES, CADENCES, TIMES, st.integers(0, 70 * 86_400))
def test_after_a_change_of_cadence_or_zone_time_is_divided_whole_all_the_same(
    old: Cadence, new: Cadence, time: int, later: int
) -> None:
    newest = old.period_at(time)
    found = [newest, *lacking(new, newest, time + later, catch_up=True)]
    assert all(one.end == other.start and other.start < other.end for one, other in pairwise(found))
    assert all(one == new.period_at(one.start) for one in found[2:])


def test_after_a_change_of_zone_no_second_bill_has_the_same_month() -> None:
    end = LocalMonth().period_at(at("America/New_York", 2026, 10, 20)).end
    for zone in ("America/Los_Angeles", "Europe/Berlin", "Asia/Tokyo"):
        assert following(LocalMonth(ZoneInfo(zone)), end).name == "2026-11"


def test_of_a_job_that_makes_up_for_nothing_only_the_present_period_counts() -> None:
    day = Seconds(86_400)
    now = 20_000 * 86_400 + 5
    present = day.period_at(now)
    assert lacking(day, day.period_at(now - 7 * 86_400), now, catch_up=False) == [present]
    assert lacking(day, present, now, catch_up=False) == []
    assert lacking(day, day.period_at(now + 86_400), now, catch_up=False) == [present], "a clock was wrong"
    soon = present.end - AHEAD_S
    assert lacking(day, day.period_at(present.end), soon, catch_up=False) == [], "another process's clock is ahead"
