"""When a meter sends its puts, and which group waits."""

from commonwatt.device.records.delivery import next_put, open_group
from commonwatt.model.control.relaying import PUT_S
from commonwatt.model.units import GROUP_S

NOW = 1_782_000_000.0


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
