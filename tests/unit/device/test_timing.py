"""When a meter sends, and what it takes of a time that it is told."""

import pytest

from commonwatt.device.timing import (
    AHEAD_TOLERANCE_S,
    GOOD_FOR_S,
    PUT_S,
    TOLERANCE_S,
    Reported,
    ReportedTime,
    next_put,
    open_group,
)
from commonwatt.model.trust import Trust
from commonwatt.model.units import GROUP_S

NOW = 1_782_000_000.0


@pytest.mark.parametrize(
    ("behind_s", "asked_s_ago", "by_s"),
    [
        (0, None, 0),
        (TOLERANCE_S, None, 0),
        (TOLERANCE_S + 1, None, TOLERANCE_S + 1),
        (-3600, None, 0),  # it may have been on its way for an hour
        (-AHEAD_TOLERANCE_S, 0, 0),
        (-3600, 0, -3600),
        (-3600, 600, -3000),  # no more than is certain
    ],
)
def test_of_a_told_time_what_is_certain_is_taken(behind_s: int, asked_s_ago: int | None, by_s: int) -> None:
    for offset_s in (0, 500):
        since = None if asked_s_ago is None else NOW - asked_s_ago
        told = Reported(int(NOW) + offset_s + behind_s, Trust.NETWORK, since)
        assert ReportedTime().step_s(told, Trust.NONE, offset_s, NOW) == by_s


def test_less_trust_is_taken_after_a_day_and_none_never() -> None:
    it = ReportedTime()
    assert it.step_s(Reported(int(NOW), Trust.NETWORK, None), Trust.NONE, 0, NOW) == 0
    for after_s, trust, by_s in (
        (GOOD_FOR_S, Trust.METERS, None),
        (GOOD_FOR_S + 1, Trust.NONE, None),
        (GOOD_FOR_S + 1, Trust.METERS, 1000),
    ):
        told = Reported(int(NOW) + after_s + 1000, trust, None)
        assert it.step_s(told, Trust.NETWORK, 0, NOW + after_s) == by_s


def test_turns_are_a_minute_apart_and_those_of_neighbours_a_second() -> None:
    first = next_put(17, NOW)
    assert NOW < first <= NOW + PUT_S
    assert next_put(17, first) == first + PUT_S
    assert next_put(18, first) == first + 1


def test_the_group_being_measured_waits_and_one_far_off_does_not() -> None:
    start = int(NOW) // GROUP_S * GROUP_S
    assert open_group(start + 15, start + 20) == start
    assert open_group(start, start + 5) is None, "the last one is whole"
    assert open_group(start + 15, start - 3600) is None, "the clock was set back"
