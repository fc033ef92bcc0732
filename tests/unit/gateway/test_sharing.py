"""Who shares with whom: C2 and the band that keeps it from flapping."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.control.sharing import BatteryState, Decision, decide_spec, near_minimum

CAPACITY = 1000
BAND = 10
NOBODY = Decision()

percentages = st.sampled_from([25, 50, 75, 100])
states = st.builds(
    lambda level, percent, available: BatteryState(
        level=level, capacity=CAPACITY, minimum=CAPACITY * percent // 100, available=available
    ),
    st.integers(0, CAPACITY),
    percentages,
    st.booleans(),
)
microgrids = st.dictionaries(st.integers(1, 6), states, max_size=6)
members = st.frozensets(st.integers(1, 6))
befores = st.builds(lambda a, b: Decision(a - b, b), members, members)


def town(*levels_percent: tuple[int, int]) -> dict[int, BatteryState]:
    """Batteries 1, 2, ... as (level, minimum) in percent."""
    return {
        i: BatteryState(level=level * 10, capacity=CAPACITY, minimum=minimum * 10)
        for i, (level, minimum) in enumerate(levels_percent, 1)
    }


@given(microgrids, befores, st.integers(0, 100))
def test_nobody_at_or_below_their_minimum_is_told_to_share(
    batteries: dict[int, BatteryState], before: Decision, band: int
) -> None:  # req: C2
    decision = decide_spec(batteries, before, band)
    assert all(batteries[meter].level > batteries[meter].minimum for meter in decision.donors)


@given(microgrids, befores, st.integers(0, 100))
def test_nobody_shares_unless_somebody_needs_it(
    batteries: dict[int, BatteryState], before: Decision, band: int
) -> None:  # req: C2
    decision = decide_spec(batteries, before, band)
    assert decision.receivers or not decision.donors
    assert not decision.donors & decision.receivers
    assert decision.donors | decision.receivers <= batteries.keys()


@given(microgrids, befores, st.integers(0, 100))
def test_everybody_below_their_minimum_is_helped_if_anybody_can(
    batteries: dict[int, BatteryState], before: Decision, band: int
) -> None:  # req: C2
    decision = decide_spec(batteries, before, band)
    needy = {meter for meter, battery in batteries.items() if battery.available and battery.level < battery.minimum}
    assert needy <= decision.receivers
    able = {
        meter
        for meter, b in batteries.items()
        if b.available and b.level > b.minimum + CAPACITY * band // 1000 and meter not in decision.receivers
    }
    if needy:
        assert able <= decision.donors


@given(microgrids, befores, st.integers(0, 100))
def test_unavailable_battery_is_never_told_to_share(
    batteries: dict[int, BatteryState], before: Decision, band: int
) -> None:
    decision = decide_spec(batteries, before, band)
    assert all(batteries[meter].available for meter in decision.donors)


@given(microgrids, befores, st.integers(0, 100))
def test_decision_with_the_same_levels_stays(batteries: dict[int, BatteryState], before: Decision, band: int) -> None:
    once = decide_spec(batteries, before, band)
    assert decide_spec(batteries, once, band) == once


def switches(levels: list[int], *, watched: int) -> int:
    """Count how often a battery of minimum 500 starts or stops beside one that always needs help and one that can."""
    decision, told = NOBODY, []
    for level in levels:
        batteries = {
            1: BatteryState(level=level, capacity=CAPACITY, minimum=500),
            2: BatteryState(level=900, capacity=CAPACITY, minimum=500),
            3: BatteryState(level=100, capacity=CAPACITY, minimum=500),
        }
        decision = decide_spec(batteries, decision, BAND)
        told.append(1 in (decision.donors if watched == 1 else decision.receivers))
    return sum(a != b for a, b in pairwise(told))


@given(st.lists(st.integers(501, 510), min_size=1, max_size=30), st.sampled_from([480, 500, 530]))
def test_donor_near_its_minimum_does_not_flap(levels: list[int], first: int) -> None:
    assert switches([first, *levels], watched=1) == 0


@given(st.lists(st.integers(500, 509), min_size=1, max_size=30), st.sampled_from([480, 530]))
def test_receiver_near_its_minimum_does_not_flap(levels: list[int], first: int) -> None:
    assert switches([first, *levels], watched=2) == 0


@given(st.lists(st.integers(491, 509), min_size=1, max_size=30))
def test_wobble_around_the_minimum_switches_at_most_once(levels: list[int]) -> None:
    assert switches(levels, watched=2) <= 1


def test_slow_rise_and_fall_switch_once_each_way() -> None:
    rise = list(range(450, 560))
    assert switches(rise, watched=1) == 1
    assert switches(rise[::-1], watched=1) == 1
    assert switches(rise, watched=2) == 1
    assert switches(rise[::-1], watched=2) == 1


@pytest.mark.parametrize(
    ("batteries", "donors", "receivers"),
    [
        pytest.param(town((60, 50), (80, 50), (40, 50)), {1, 2}, {3}, id="one below: those above share"),
        pytest.param(town((40, 50), (53, 50), (55, 50)), {2, 3}, {1}, id="the example of P 3.5"),
        pytest.param(town((60, 25), (60, 75)), {1}, {2}, id="each by its own minimum"),
        pytest.param(town((60, 50), (80, 75)), set(), set(), id="all above: nobody"),
        pytest.param(town((40, 50), (10, 25)), set(), {1, 2}, id="all below: nobody"),
        pytest.param(town((50, 50), (40, 50)), set(), {2}, id="at the minimum: does not share"),
        pytest.param(town((40, 50)), set(), {1}, id="one battery"),
        pytest.param({}, set(), set(), id="none"),
    ],
)
def test_sharing_is_as_the_town_specified(
    batteries: dict[int, BatteryState], donors: set[int], receivers: set[int]
) -> None:  # req: C2
    decision = decide_spec(batteries, NOBODY, BAND)
    assert decision.donors == donors
    assert decision.receivers == receivers


def test_full_battery_with_a_minimum_of_all_it_holds_is_done_receiving() -> None:
    batteries = town((100, 100), (90, 50))
    assert decide_spec(batteries, Decision(frozenset({2}), frozenset({1})), BAND) == NOBODY


def test_batteries_near_their_minimum_are_watched_closely() -> None:
    assert near_minimum(town((40, 50), (50, 50), (55, 50), (56, 50)), 50) == {1, 2, 3}


def test_battery_that_can_not_be_commanded_receives_and_never_gives() -> None:  # req: C2, K5
    batteries = {
        1: BatteryState(level=900, capacity=CAPACITY, minimum=500, shares=False),
        2: BatteryState(level=100, capacity=CAPACITY, minimum=500, shares=False),
    }
    assert decide_spec(batteries, NOBODY, BAND) == Decision(frozenset(), frozenset({2}))
    batteries[3] = BatteryState(level=800, capacity=CAPACITY, minimum=500)
    assert decide_spec(batteries, NOBODY, BAND) == Decision(frozenset({3}), frozenset({2}))
