"""What was counted lately: minute by minute, what an alarm sees of counters and figures."""

import math
from collections.abc import Iterable

import pytest

from utility.alarms.past import Count, Counting, Past

NAN = math.nan


class Minutes:
    """A service that is looked at each minute from 1 on."""

    def __init__(self) -> None:
        self.counting, self.minute = Counting(0.0), 0

    def look(
        self, counts: dict[Count, int] | None = None, backlog: int = 0, gaps: float = 0, conflicts: float = 0
    ) -> Past:
        self.minute += 1
        now = self.minute * 60.0
        self.counting.look(counts or {}, {"r001": backlog}, gaps, conflicts, now)
        return self.counting.past


@pytest.mark.parametrize(
    ("name", "minutes"),
    [("dropped", 15), ("store_errors", 15), ("dead_letters", 60), ("handovers", 60), ("job_failures", 60)],
)
def test_counter_that_grew_is_seen_within_its_window_and_forgotten_after_it(name: str, minutes: int) -> None:
    it, key = Minutes(), (name, "")
    seen = [it.look({key: int(minute >= 10)}).count(name) for minute in range(1, 100)]
    assert seen == [int(10 <= minute < 10 + minutes) for minute in range(1, 100)]


def test_counts_are_told_by_label() -> None:
    past = Minutes().look({("refusals", "checksum"): 2, ("handovers", "r001"): 4})
    assert (past.by_label("refusals"), past.by_label("handovers")) == ({"checksum": 2}, {"r001": 4})


def growing_backlog(values: Iterable[int]) -> list[int]:
    """Return the minutes in which a backlog grows."""
    it = Minutes()
    return [it.minute for value in values if it.look(backlog=value).growing]


def test_backlog_grows_while_the_utility_is_away_until_it_drains() -> None:
    away = [20] * 60 + [20 + 100 * n for n in range(120)] + [11_000 - 1_000 * n for n in range(10)] + [20] * 60
    found = growing_backlog(away)
    assert found == list(range(found[0], found[-1] + 1))
    assert 80 <= found[0] <= 120
    assert 180 <= found[-1] <= 185


@pytest.mark.parametrize(
    "values",
    [
        [0, 300, 600] * 80,
        [900, 1_200, 1_500] * 80,
        [50_000 - 100 * n for n in range(240)],
    ],
    ids=["comes and goes", "waits for a meter, and comes and goes", "begins with what waits"],
)
def test_backlog_that_does_not_grow_is_none(values: list[int]) -> None:
    assert growing_backlog(values) == []


def test_more_is_missing_each_hour_until_all_is_found() -> None:
    it = Minutes()
    values = [5] * 360 + [5 + n for n in range(600)] + [0] * 60
    found = [it.minute for value in values if it.look(gaps=value).gaps_grow]
    assert found == list(range(found[0], 961))
    assert 540 <= found[0] <= 780


def test_some_that_are_always_missing_and_a_start_are_no_growth() -> None:
    for values in ([40, 60, 50] * 200, [NAN] * 300 + [0] * 300, [NAN] * 5 + [40] * 600):
        it = Minutes()
        assert not any(it.look(gaps=value).gaps_grow for value in values)


def test_conflicting_slots_count_as_they_grow() -> None:
    it = Minutes()
    values = [NAN, 4, 4, 6, 5, *[5] * 60, 3, 3, 4]
    seen = [it.look({("conflicts", ""): 50}, conflicts=value).count("conflicts") - 50 for value in values]
    assert (seen[3:6], seen[-3:]) == ([2, 2, 2], [-50, -50, -49]), "fewer of them are no new ones"


def test_clock_that_is_set_back_begins_the_count_anew() -> None:
    it = Minutes()
    for _ in range(10):
        it.look({("dropped", ""): 1})
    it.minute -= 1_440
    assert it.look({("dropped", ""): 1}).count("dropped") == 1
    seen = [it.look({("dropped", ""): 1}).count("dropped") for _ in range(30)]
    assert seen[-1] == 0
