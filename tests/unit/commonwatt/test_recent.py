"""How much counters grew within a window."""

from commonwatt.model.time.recent import LONGEST_S, Recent
from gateway.shown.shown import ALARM_WINDOWS_S


def test_a_counter_grows_within_its_window_and_is_forgotten_after_it() -> None:
    recent = Recent[str](0.0)
    for minute in range(61):
        recent.look({"faults": 3 if minute >= 10 else 0}, minute * 60.0)
        expected = 3 if 10 <= minute < 25 else 0
        assert recent.increase("faults", 900) == expected, minute
    assert recent.increase("faults", 3600) == 3


def test_what_happened_before_the_first_look_counts() -> None:
    recent = Recent[str](0.0)
    recent.look({"store_failures": 2}, 5.0)
    assert recent.increase("store_failures", 900) == 2
    assert recent.increase("faults", 900) == 0
    assert recent.watched_s == 5


def test_a_counter_that_began_again_counts_from_zero() -> None:
    recent = Recent[str](0.0)
    recent.look({"records": 500}, 60.0)
    recent.look({"records": 4}, 120.0)
    recent.look({"records": 4}, 1020.0)
    assert recent.increase("records", 900) == 0
    recent.look({"records": 7}, 1025.0)
    assert recent.increase("records", 960) == 7


def test_samples_are_bounded() -> None:
    recent = Recent[str](0.0)
    for second in range(0, 100_000, 5):
        recent.look({"records": second}, float(second))
    assert len(recent._samples) <= 62
    assert recent.watched_s == 3600
    assert abs(recent.increase("records", 900) - 900) <= 60
    assert max(ALARM_WINDOWS_S.values()) <= LONGEST_S
