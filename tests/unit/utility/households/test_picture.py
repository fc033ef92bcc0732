"""A home's energy as pictures."""

from collections.abc import Sequence

import numpy as np
import pytest

from harness.surroundings.utility import a_heartbeat
from utility.households.course import Course, Line, figures_of
from utility.households.helping import helped_now
from utility.households.picture import home_now
from utility.households.store.home import Battery
from utility.households.store.today import Day, Stored


def line(*energies: int) -> Line:
    whole = np.full(len(energies), 60)
    return Line(energy=np.array(energies), slots=whole, expected=whole)


def test_own_part_is_never_more_than_all_though_a_battery_jumps() -> None:
    """A battery that is exchanged for a fuller one seems to gain what no source gave."""
    course = Course(
        first=0,
        solar=line(1_000, 1_000),
        taken=line(0, 0),
        given=line(0, 0),
        stored=line(5_000, 50_000),
        gained=line(0, 45_000),
        newest=None,
    )
    now = home_now(course)
    assert now is not None
    assert now.own_permille == 1000


def test_the_own_part_is_what_was_not_taken_of_the_use_that_stands_beside_it() -> None:
    """A home gives and takes in one quarter-hour, and a reading of its panels lacks in another."""
    solar = Line(energy=np.array([6_000, 0, 500]), slots=np.array([60, 60, 59]), expected=np.full(3, 60))
    course = Course(
        first=0,
        solar=solar,
        taken=line(2_000, 4_000, 9_000),
        given=line(3_000, 0, 0),
        stored=line(0, 0, 0),
        gained=line(0, 0, 0),
        newest=None,
    )
    now, shown = home_now(course), dict(figures_of(course.whole, 0, 3).all)
    used, taken = shown["Used"].energy, shown["Taken"].energy
    assert (used, taken, shown["Solar"].energy, shown["Given"].energy) == (9_000, 6_000, 6_000, 3_000)
    assert now is not None
    assert now.own_permille == 1000 * (9_000 - 6_000) / 9_000


def battery(minimum: int | None) -> Battery:
    return Battery(meter=8, microgrid="r001", place="a", capacity=100, minimum=minimum, reported=None, is_shared=False)


@pytest.mark.parametrize(
    ("levels", "since"),
    [
        ((60, 50, 40, 45), (12 * 900, True)),
        ((40, 60, 40), (12 * 900, True)),
        ((40, 45), (10 * 900, False)),
        ((60, 40, 50), None),
        ((), None),
    ],
)
def test_a_level_below_the_minimum_says_since_when(levels: Sequence[int], since: tuple[int, bool] | None) -> None:
    # The first quarter is number 9; the end of a quarter has its level.
    none = line(*(0 for _ in levels))
    course = Course(first=9, solar=none, taken=none, given=none, stored=line(*levels), gained=none, newest=None)
    day = Day(course=course, sums=figures_of(course, 9, 9), until=None, level=None)
    stored = Stored(batteries=[battery(50)], level=None, permille=None, today=day)
    assert stored.low_since == since
    assert Stored(batteries=[battery(50)] * 2, level=None, permille=None, today=day).low_since is None
    assert Stored(batteries=[battery(None)], level=None, permille=None, today=day).low_since is None


def test_a_battery_below_its_minimum_says_who_helps() -> None:
    def said(**sharing: str) -> str:
        beat = a_heartbeat(time=1_000, sharing={int(meter[1:]): code for meter, code in sharing.items()})
        return helped_now(beat, 8, 1_100)

    assert said(m8="low", m9="helps") == "A neighbour's battery helps it."
    assert said(m8="low", m9="helps", m10="helps?") == "2 of the neighbours' batteries help it."
    assert said(m8="alone", m9="rests") == "Below its minimum, but no other battery can share."
    assert said(m8="low-island", m9="no-need").startswith("Below its minimum; in an island")
    assert said(m9="helps") == helped_now(None, 8, 0) == "Its gateway does not say now who helps it."
    old = a_heartbeat(time=1_000, sharing={8: "low", 9: "helps"})
    assert helped_now(old, 8, 3_000) == "Its gateway does not say now who helps it."
