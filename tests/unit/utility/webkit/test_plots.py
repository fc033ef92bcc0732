"""Plots of long series keep every peak, gap and doubt."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from utility.webkit.console.plots import MOST_MARKS, SOME_MISSING, Series, marks, plotted, thinned

WORDS = {1: "averaged"}
slots = st.lists(st.tuples(st.integers(-(2**53), 2**53), st.integers(0, 2)), min_size=1, max_size=300)


def series(values: list[tuple[int, int]]) -> Series:
    energies = np.array([value if quality else 0 for value, quality in values], np.int64)
    quality = np.array([quality for _, quality in values], np.uint8)
    none = np.zeros(len(values), np.bool_)
    return Series(start=900, step_s=15, low=energies, high=energies, quality=quality, lacking=none)


@given(slots, st.integers(1, 40))
def test_each_step_of_a_thinned_series_has_the_extremes_of_what_it_stands_for(
    values: list[tuple[int, int]], most: int
) -> None:
    whole = series(values)
    found = thinned(whole, most)
    assert len(found) <= most
    many = found.step_s // whole.step_s
    for at in range(len(found)):
        some = [value for value, quality in values[at * many : (at + 1) * many] if quality]
        worst = [quality for _, quality in values[at * many : (at + 1) * many] if quality]
        assert int(found.quality[at]) == min(worst, default=0), "a step without any value is a gap, the others are not"
        assert bool(found.lacking[at]) == (0 < len(some) < len(values[at * many : (at + 1) * many]))
        if some:
            assert (int(found.low[at]), int(found.high[at])) == (min(some), max(some))


@given(slots)
def test_a_plot_draws_gaps_as_gaps_and_marks_what_is_not_exact(values: list[tuple[int, int]]) -> None:
    found = plotted(series(values), 0.5, WORDS)
    assert [value is None for value in found["high"]] == [quality == 0 for _, quality in values]
    assert found["missing"] == sum(quality == 0 for _, quality in values)
    assert "low" not in found, "one value a step is a line, not a band"
    marked = {at for begin, end, _ in found["marks"] for at in range(begin, end, 15)}
    if len(found["marks"]) < MOST_MARKS:
        assert marked == {900 + 15 * n for n, (_, quality) in enumerate(values) if quality == 1}


def test_a_step_that_lacks_a_value_is_marked() -> None:
    found = thinned(series([(5, 2), (0, 0), (7, 2), (7, 2)]), 2)
    assert marks(found, WORDS) == [(900, 930, SOME_MISSING)]


def test_marks_are_bounded() -> None:
    found = marks(series([(1, 1 + n % 2) for n in range(4 * MOST_MARKS)]), WORDS)
    assert len(found) == MOST_MARKS
    assert found[-1][1] == 900 + 15 * (4 * MOST_MARKS - 1)
