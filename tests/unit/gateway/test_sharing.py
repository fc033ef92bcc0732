"""Which batteries share with which: C2, A5, P4, and the band that keeps a battery from flapping."""

from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from commonwatt.config.settings import GatewaySettings
from commonwatt.energy.strategies import STRATEGIES
from commonwatt.energy.strategies.batteries import MAX_WEIGHT, Batteries
from commonwatt.protocol.sharing_words import Why
from gateway.control.sharing import BatteryState, Decision, decide, near_minimum, reasons
from harness.strategies.hours import watch
from harness.strategies.loop import follow
from harness.strategies.microgrids import mismatches, plain, random_batteries
from harness.strategies.properties import PROPERTIES, Property, table

CAPACITY = 1000
BAND = 10
MICROGRIDS = 10_000

NAMES = sorted(STRATEGIES)


@pytest.fixture(scope="module")
def microgrids() -> Batteries:
    return random_batteries(np.random.default_rng(11), MICROGRIDS)


@pytest.mark.parametrize(
    ("strategy", "name", "judge"), [pytest.param(*row, id=f"{row[0]}: {row[1]}") for row in table()]
)
def test_strategy_has_its_properties(microgrids: Batteries, strategy: str, name: str, judge: Property) -> None:
    # req: C2, A5, P4
    wrong = np.flatnonzero(~judge(microgrids, STRATEGIES[strategy](microgrids)))
    assert not wrong.size, f"{name}: {wrong.size} microgrids, the first is {plain(microgrids)[wrong[0]]}"


@pytest.mark.parametrize("strategy", NAMES)
@pytest.mark.parametrize("seed", range(3))
def test_strategy_plans_as_the_plain_reference(strategy: str, seed: int) -> None:
    batteries = random_batteries(np.random.default_rng(seed), 1_000)
    assert mismatches(strategy, batteries, plain(batteries)) == 0


@pytest.mark.parametrize("strategy", NAMES)
def test_a_town_decides_as_its_microgrids_one_by_one(strategy: str) -> None:
    town = random_batteries(np.random.default_rng(4), 20)
    plan = STRATEGIES[strategy](town)
    for row, batteries in enumerate(plain(town)):
        states = {
            100 - place: BatteryState(
                level=each.level,
                capacity=each.capacity,
                minimum=each.minimum,
                available=each.available,
                shares=each.may_share,
                sharing=each.sharing,
                weight=each.weight,
            )
            for place, each in reversed(list(enumerate(batteries)))
        }
        # The manager takes its meters in the order of their ids, whatever the order in which they reported.
        mirrored = {101 - meter: state for meter, state in states.items()}
        island = town.islands is not None and bool(town.islands[row])
        donors = decide(mirrored, strategy, town.band_permille, island=island).donors
        expected = {place + 1: int(weight) for place, weight in enumerate(plan.weights[row]) if weight}
        assert donors == expected
        found = reasons(mirrored, strategy, town.band_permille, island=island)
        assert {meter for meter, why in found.items() if why in (Why.HELPS, Why.READY)} == set(donors)


def test_every_strategy_can_be_chosen_and_has_properties() -> None:
    choices = get_args(GatewaySettings.model_fields["sharing"].annotation)
    assert set(choices) == set(STRATEGIES) == set(PROPERTIES)


# Examples


def town(*levels_percent: tuple[int, int], sharing: tuple[int, ...] = ()) -> dict[int, BatteryState]:
    """Batteries 1, 2, ... as (level, minimum) in percent."""
    return {
        i: BatteryState(level=level * 10, capacity=CAPACITY, minimum=minimum * 10, sharing=i in sharing)
        for i, (level, minimum) in enumerate(levels_percent, 1)
    }


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
    decision = decide(batteries, "spec", BAND)
    assert decision.donors.keys() == donors
    assert decision.receivers == receivers


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("strategy", NAMES)
def test_in_an_island_a_battery_is_helped_only_when_it_is_nearly_empty(strategy: str, alone: bool) -> None:
    def donors(lowest: int, *sharing: int) -> set[int]:
        batteries = town((60, 25), (lowest, 75), sharing=sharing)
        return set(decide(batteries, strategy, BAND, alone=alone, island=True).donors)

    assert not donors(70)
    assert not donors(70, 1), "help that began on the grid ends: what is above a minimum waits for an empty battery"
    assert donors(0) == {1}
    assert donors(3, 1) == {1}, "it goes on until there is an hour of average use"
    assert not donors(5, 1)


def test_the_reasons_in_an_island_are_those_of_an_island() -> None:
    waits = reasons(town((60, 25), (70, 75)), "spec", BAND, island=True)
    assert waits == {1: Why.NO_NEED, 2: Why.LOW_IN_ISLAND}
    helped = reasons(town((60, 25), (0, 75)), "spec", BAND, island=True)
    assert helped == {1: Why.HELPS, 2: Why.NEARLY_EMPTY}


def after(strategy: str, *percents: int) -> list[int]:
    """Return the planned levels of batteries with a minimum of 50 %, in percent, without a band."""
    level = np.array([percents]) * 10
    same = np.full_like(level, CAPACITY)
    yes = np.ones_like(level, bool)
    plan = STRATEGIES[strategy](
        Batteries(
            level=level,
            capacity=same,
            minimum=same // 2,
            available=yes,
            may_share=yes,
            sharing=~yes,
            weight=np.ones_like(level),
            band_permille=0,
        )
    )
    return [int(each) for each in ((level - plan.giving + plan.receiving) // 10)[0]]


def test_largest_surplus_gives_first() -> None:  # req: P4
    assert after("rangers", 40, 53, 55) == [48, 50, 50]
    assert after("rangers", 46, 53, 55) == [50, 53, 51]
    assert after("spec", 46, 53, 55) == [50, 51, 53]


def test_only_the_donors_that_are_needed_share_and_in_proportion() -> None:  # req: P4
    assert decide(town((46, 50), (53, 50), (55, 50)), "rangers", BAND).donors == {3: MAX_WEIGHT}
    weights = decide(town((40, 50), (55, 50), (80, 50), (45, 50)), "rangers", BAND).donors
    assert weights == {3: MAX_WEIGHT}
    weights = decide(town((20, 50), (60, 50), (70, 50), (55, 50)), "rangers", BAND).donors
    assert weights == {2: 1 + 100 * 999 // 200, 3: MAX_WEIGHT}


def test_batteries_that_already_share_come_before_larger_surpluses() -> None:  # req: P4
    assert decide(town((46, 50), (55, 50), (80, 50), sharing=(2,)), "rangers", BAND).donors == {2: MAX_WEIGHT}
    more = decide(town((44, 50), (55, 50), (80, 50), sharing=(2,)), "rangers", BAND).donors
    assert more.keys() == {2, 3}, "it is not enough: the largest surplus helps"


def test_aces_acts_only_when_a_battery_is_empty() -> None:  # req: A5
    assert decide(town((1, 50), (80, 50)), "aces", BAND) == Decision()
    assert decide(town((0, 50), (80, 50), (60, 50)), "aces", BAND).donors.keys() == {2, 3}


def test_aces_goes_on_until_no_battery_requires_power() -> None:  # req: A5
    assert decide(town((1, 50), (80, 50), sharing=(2,)), "aces", BAND).donors.keys() == {2}
    assert decide(town((50, 50), (80, 50), sharing=(2,)), "aces", BAND) == Decision()


def test_weights_are_those_that_the_members_agreed_to() -> None:  # req: C2
    batteries = town((40, 50), (80, 50)) | {
        3: BatteryState(level=900, capacity=CAPACITY, minimum=500, weight=7),
    }
    assert decide(batteries, "spec", BAND).donors == {2: 1, 3: 7}


def test_help_starts_a_band_below_the_minimum_and_ends_at_it() -> None:
    assert not decide({1: state(491), 2: state(900)}, "spec", BAND).donors
    assert decide({1: state(490), 2: state(900)}, "spec", BAND).donors
    assert decide({1: state(499), 2: state(900, sharing=True)}, "spec", BAND).donors
    assert not decide({1: state(500), 2: state(900, sharing=True)}, "spec", BAND).donors


def state(level: int, *, sharing: bool = False) -> BatteryState:
    return BatteryState(level=level, capacity=CAPACITY, minimum=500, sharing=sharing)


def test_battery_whose_minimum_is_within_the_band_is_helped_when_it_is_empty() -> None:
    low = BatteryState(level=0, capacity=CAPACITY, minimum=5)
    assert decide({1: low, 2: state(900)}, "spec", BAND).receivers == {1}


def test_full_battery_with_a_minimum_of_all_it_holds_is_done_receiving() -> None:
    assert decide(town((100, 100), (90, 50), sharing=(2,)), "spec", BAND) == Decision()


def test_battery_that_can_not_be_commanded_receives_and_never_gives() -> None:  # req: C2, K5
    batteries = {
        1: BatteryState(level=900, capacity=CAPACITY, minimum=500, shares=False),
        2: BatteryState(level=100, capacity=CAPACITY, minimum=500, shares=False),
    }
    assert decide(batteries, "spec", BAND) == Decision({}, frozenset({2}))
    batteries[3] = BatteryState(level=800, capacity=CAPACITY, minimum=500)
    assert decide(batteries, "spec", BAND) == Decision({3: 1}, frozenset({2}))


@pytest.mark.parametrize("strategy", NAMES)
@pytest.mark.parametrize("level", [-1, CAPACITY + 1, 2**53])
def test_battery_with_a_level_that_can_not_be_neither_gives_nor_receives(strategy: str, level: int) -> None:
    batteries = {1: state(level, sharing=True), 2: state(0), 3: state(900)}
    assert decide(batteries, strategy, BAND).donors.keys() == {3}
    assert reasons(batteries, strategy, BAND)[1] is Why.IMPOSSIBLE


def test_batteries_near_their_minimum_are_watched_closely() -> None:
    assert near_minimum(town((40, 50), (50, 50), (55, 50), (56, 50)), 50) == {1, 2, 3}


# Flapping


def switches(strategy: str, samples: list[list[int]], minimum: int = 500) -> list[int]:
    """Count how often each battery starts or stops to share, by its levels."""
    held: frozenset[int] = frozenset()
    told = [held]
    for levels in samples:
        batteries = {
            meter: BatteryState(level=level, capacity=CAPACITY, minimum=minimum, sharing=meter in held)
            for meter, level in enumerate(levels)
        }
        held = frozenset(decide(batteries, strategy, BAND).donors)
        told.append(held)
    return [sum((meter in a) != (meter in b) for a, b in pairwise(told)) for meter in range(len(samples[0]))]


@pytest.mark.parametrize("strategy", NAMES)
@given(
    st.lists(st.integers(-15, 15), min_size=4, max_size=4),
    st.lists(st.lists(st.integers(-4, 4), min_size=4, max_size=4), min_size=1, max_size=40),
)
def test_noise_of_half_a_band_switches_a_battery_at_most_four_times(
    strategy: str, offsets: list[int], noise: list[list[int]]
) -> None:
    """However long: a battery that stands still near its minimum starts and stops once at most, as does the help."""
    true = [500 + offset for offset in offsets[:3]] + [900 + offsets[3]]
    samples = [[level + odd for level, odd in zip(true, each, strict=True)] for each in noise]
    assert max(switches(strategy, samples)) <= 4


# Convergence


@pytest.mark.parametrize("strategy", NAMES)
def test_help_ends_with_no_deficit_beside_a_surplus_that_can_be_used(strategy: str) -> None:  # req: C2, A5, P4
    town = random_batteries(np.random.default_rng(5), 25)
    helped = 0
    for row in range(len(town.level)):
        first = last = take(town, row)
        floor = np.minimum(first.level, first.minimum)
        for last in follow(strategy, first, [np.zeros_like(first.level)] * 1_000):
            assert (last.level >= floor).all(), "no battery falls below its minimum by giving"
            if not last.sharing.any():
                break
        assert not last.sharing.any(), "help ends"
        assert last.level.sum() == first.level.sum(), "no energy beyond the need"
        started = bool(STRATEGIES[strategy](first).donors.any())
        helped += int(started)
        assert not started or not (last.deficit.any() and last.able.any())
    assert helped > 3


def take(town: Batteries, row: int) -> Batteries:
    """Return one microgrid."""
    arrays = {name: value[row : row + 1] for name, value in vars(town).items() if isinstance(value, np.ndarray)}
    fields = {name: arrays.get(name, getattr(town, name)) for name in town.__dataclass_fields__}
    return Batteries(**fields)


@pytest.mark.parametrize("strategy", NAMES)
def test_hours_of_noise_and_loads_keep_every_limit_and_help_settles(strategy: str) -> None:
    """# req: C2, A5, P4 - the emulator's physics obeys; ``python -m harness.strategies`` watches 10,000 microgrids."""
    seen = watch(strategy, (1, 0), 40)
    assert seen.helped
    assert (seen.limits, seen.unsettled, seen.noisy) == (0, 0, 0)
