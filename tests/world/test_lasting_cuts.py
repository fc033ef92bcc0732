"""The hours that are told of islands are those that come."""

from collections.abc import Iterable

import pytest

from commonwatt.energy.lasting_proof import MEDIAN_ERROR_PERCENT
from harness.lasting.cuts import SCENARIOS, WHICH, cut, scores

SOON_DARK = 5, 10, 11  # all is dark within a day: these take least


def test_feeders_whose_homes_are_dark_within_a_day_end_as_was_told() -> None:
    end_as_was_told(SOON_DARK)


@pytest.mark.real  # a quarter of a minute of a core, no programs of others
def test_feeders_cut_at_random_moments_end_as_was_told() -> None:
    end_as_was_told(range(len(SCENARIOS)))


@pytest.mark.real  # a quarter of a minute of a core, no programs of others
def test_the_range_holds_in_towns_with_guests_at_random_too() -> None:
    found = scores([one for number in range(len(SCENARIOS)) for one in cut(number, guests=True)], WHICH)
    assert len(found.open.came) > 100
    assert found.open.held_percent >= 70, "with the range of the test cuts alone it held about 55"


def end_as_was_told(numbers: Iterable[int]) -> None:
    """Cut feeders."""
    found = scores([one for number in numbers for one in cut(number)], WHICH)
    assert len(found.open.came) > 50
    assert found.worse == 0, "less than the least that was told"
    assert found.error_percent <= 2 * MEDIAN_ERROR_PERCENT, "few cuts: twice the median of 200"
    assert found.open.held_percent >= 60, "few cuts: the range of 80 % holds less often than that by chance alone"
