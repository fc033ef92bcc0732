"""Fifty browsers cost what one costs: the town's state is shared, and its day is read a few quarter-hours at a time."""

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commonwatt.look.palette import PowerFlow
from utility.overview.pages.town import day_plot, figures_of
from utility.overview.today import SPAN, DayEnergy, QuarterEnergy
from utility.webkit.console.shared import Shared


class Counted:
    """A value that counts how often it was computed."""

    def __init__(self) -> None:
        self.now = 100
        self.times = 0

    def compute(self) -> int:
        self.times += 1
        return self.times

    def shared(self) -> Shared[int]:
        return Shared(self.compute, every_s=4, at_most_s=60, now=lambda: self.now)


def settled_after(shared: Shared[int], wanted: int) -> None:
    """Wait until the thread beside has computed a value."""
    ends = time.monotonic() + 10
    while shared.get() != wanted:
        assert time.monotonic() < ends
        threading.Event().wait(0.001)


def test_a_shared_value_is_computed_once_in_its_time() -> None:
    counted = Counted()
    shared = counted.shared()
    assert [shared.get() for _ in range(50)] == [1] * 50
    counted.now += 4
    assert shared.get() == 1, "a little old: nobody waits, the next is computed beside"
    settled_after(shared, 2)
    assert [shared.get() for _ in range(50)] == [2] * 50
    counted.now += 61
    assert shared.get() == 3, "too old: it is waited for"
    counted.now -= 1_000
    assert shared.get() == 4, "a clock that was set back must not keep an old value"


def test_a_value_that_is_too_old_is_computed_once_for_all_who_wait() -> None:
    begun, go_on, found = threading.Event(), threading.Event(), list[int]()
    counted = Counted()

    def compute() -> int:
        begun.set()
        assert go_on.wait(10)
        return counted.compute()

    shared = Shared(compute, every_s=4, at_most_s=60, now=lambda: counted.now)
    waiting = [threading.Thread(target=lambda: found.append(shared.get())) for _ in range(5)]
    for one in waiting:
        one.start()
    assert begun.wait(10)
    go_on.set()
    for one in waiting:
        one.join(10)
    assert found == [1] * 5


def test_a_fault_beside_is_met_by_the_request_that_finds_the_value_too_old(caplog: pytest.LogCaptureFixture) -> None:
    counted = Counted()

    def compute() -> int:
        if counted.compute() > 1:
            raise ValueError("damaged")
        return 1

    shared = Shared(compute, every_s=4, at_most_s=60, now=lambda: counted.now)
    assert shared.get() == 1
    counted.now += 10
    while counted.times < 2:
        assert shared.get() == 1
    counted.now += 100
    with pytest.raises(ValueError, match="damaged"):
        shared.get()
    assert "could not be computed" in caplog.text


@given(
    st.integers(1, 100),
    st.lists(st.integers(0, 300), min_size=1, max_size=30),
)
def test_every_quarter_of_the_day_is_read_soon_and_the_newest_often(passed: int, steps: list[int]) -> None:
    day, now, newest = DayEnergy(), 10**9, SPAN + passed - 1
    reads: dict[int, list[int]] = {}
    for step in [*steps, *[60] * 60]:
        now += step
        wanted = day.wanted(SPAN, newest, now)
        assert len(wanted) == len(set(wanted))
        for quarter in wanted[:7]:
            assert 0 <= quarter <= newest
            reads.setdefault(quarter, []).append(now)
            day.read(quarter, QuarterEnergy(net=1, blocks=5), now)
        assert now - reads[newest][-1] < 60
    assert set(reads) == set(range(SPAN + passed)), "the day, and the one before, are known after some looks"
    assert day.today(now).total.net == day.today(now).known == passed


def test_a_quarter_that_is_still_being_joined_is_not_the_present() -> None:
    day = DayEnergy()
    assert day.wanted(10, 11, 0)[:2] == [11, 10], "the newest comes first"
    for quarter, blocks in ((10, 1_000), (11, 400)):
        day.read(quarter, QuarterEnergy(net=900_000, sun=500_000, charged=400_000, blocks=blocks), 0)
    found = day.today(12 * 900)
    assert (found.quarter, found.start, found.known, found.passed) == (10, 9_000, 2, 2)
    assert (found.net_w, found.used_w) == (3_600, 4_000)
    day.read(11, QuarterEnergy(net=900_000, blocks=990), 60)
    assert day.today(12 * 900).quarter == 11
    assert 96 in day.wanted(96, 96, 97 * 900)
    found = day.today(97 * 900)
    assert (found.quarter, found.known, found.total.net, found.own_permille) == (11, 0, 0, None), (
        "a new day has nothing yet"
    )
    assert day.wanted(192, 192, 200 * 900)[0] == 192, "what is older than 24 hours is forgotten"
    assert day.today(200 * 900).quarter is None


def test_tomorrows_sun_is_that_of_the_last_24_hours_if_they_are_known() -> None:
    day = DayEnergy()
    day.wanted(40, 95, 96 * 900)
    for quarter in range(5, 96):
        day.read(quarter, QuarterEnergy(sun=1_000, blocks=9), 0)
    assert day.today(96 * 900).sun_of_24_h is None
    day.read(4, QuarterEnergy(sun=1_000, blocks=9), 0)
    assert day.today(96 * 900).sun_of_24_h == 96_000


def test_the_own_part_of_the_towns_day_fits_the_figures_beside_it() -> None:
    day = DayEnergy()
    day.wanted(0, 1, 0)
    day.read(0, QuarterEnergy(net=3_000_000, blocks=10), 0)
    day.read(1, QuarterEnergy(net=-5_000_000, sun=12_000_000, blocks=10), 0)
    today = day.today(2 * 900)
    used, _, _, bought = (each["value"] for each in figures_of(today))
    assert (used, bought) == ("10.0 kWh", "3.0 kWh"), "what was given later takes nothing off"
    assert today.own_permille == 700


_ENERGY = st.integers(0, 10**9)


@given(st.integers(-(10**9), 10**9), _ENERGY, st.integers(-(10**9), 10**9), _ENERGY)
def test_what_was_used_is_the_sum_of_its_sources(net: int, sun: int, charged: int, given: int) -> None:
    energy = QuarterEnergy(net=net, sun=sun, charged=charged, given=given, blocks=1)
    found = energy.by_source()
    assert sum(found.values()) == max(0, energy.used)
    assert min(found.values()) >= 0
    assert found[PowerFlow.SUN] <= sun


def test_the_days_plot_leaves_a_gap_where_a_quarter_hour_is_unknown() -> None:
    day = DayEnergy()
    day.wanted(0, 2, 0)
    for quarter in (0, 2):
        day.read(quarter, QuarterEnergy(net=1_000_000, sun=500_000, charged=-250_000, blocks=10), 0)
    plot = day_plot(day.today(3 * 900))
    assert plot["note"] == "94 of 96 quarter-hours of the last day are not shown: without readings, or being read."
    assert {one["flow"]: one["high"][-3:] for one in plot["series"]} == {
        "sun": [2.0, None, 2.0],
        "battery": [1.0, None, 1.0],
        "neighbours": [0.0, None, 0.0],
        "plant": [4.0, None, 4.0],
    }
