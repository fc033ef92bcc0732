"""Which batteries share with which, why, in words, and that none shares on a number that can't be."""

import random
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from commonwatt.codec.packing import pack
from commonwatt.config.settings import GatewaySettings
from commonwatt.device.commands import Commanded
from commonwatt.energy.strategies import MAX_WEIGHT, STRATEGIES, Batteries
from commonwatt.look.sharing_words import RoleReason, reason_of_code
from commonwatt.model.blocks import Blocks, make_blocks
from commonwatt.model.records import RecordType
from commonwatt.model.time import Now, Trust
from commonwatt.model.units import QUARTER_S, SLOT_S, SLOTS
from commonwatt.protocol.commands import Kind
from commonwatt.protocol.controller_commands import ControllerCommand
from commonwatt.town.loading import load_town
from gateway.control.level_watch import LevelWatch
from gateway.control.manager import SHARE_FOR_S
from gateway.control.meter_states import meter_states
from gateway.control.microgrid_states import MicrogridStates
from gateway.control.plausibility import (
    EXCESS_PERMILLE,
    JUMP_PERMILLE,
    WINDOW_SLOTS,
    Doubt,
    History,
    RecordedBattery,
    recorded_of,
)
from gateway.control.rotation import Rotation
from gateway.control.sharing import BatteryState, SharingDecision, decide, near_minimum, reasons
from gateway.shown.status import view
from gateway.store.changes import AppendParts, Part
from harness.energy.worlds import Alone
from harness.strategies.hours import watch
from harness.strategies.properties import PROPERTIES, Property, table
from harness.strategies.reference import follow, mismatches, plain, random_batteries
from harness.surroundings.gateway import CAPACITY, START, World, commands, readings, registered
from harness.surroundings.page import add_battery, add_unknown, decided, empty, words
from tests.unit.gateway.test_manager import households

SMALL_CAPACITY = 1000
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
        assert {meter for meter, why in found.items() if why in (RoleReason.HELPS, RoleReason.READY)} == set(donors)


def test_every_strategy_can_be_chosen_and_has_properties() -> None:
    choices = get_args(GatewaySettings.model_fields["sharing"].annotation)
    assert set(choices) == set(STRATEGIES) == set(PROPERTIES)


# Examples


def town(*levels_percent: tuple[int, int], sharing: tuple[int, ...] = ()) -> dict[int, BatteryState]:
    """Batteries 1, 2, ... as (level, minimum) in percent."""
    return {
        i: BatteryState(level=level * 10, capacity=SMALL_CAPACITY, minimum=minimum * 10, sharing=i in sharing)
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
    assert waits == {1: RoleReason.NO_NEED, 2: RoleReason.LOW_IN_ISLAND}
    helped = reasons(town((60, 25), (0, 75)), "spec", BAND, island=True)
    assert helped == {1: RoleReason.HELPS, 2: RoleReason.NEARLY_EMPTY}


def after(strategy: str, *percents: int) -> list[int]:
    """Return the planned levels of batteries with a minimum of 50 %, in percent, without a band."""
    level = np.array([percents]) * 10
    same = np.full_like(level, SMALL_CAPACITY)
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
    assert decide(town((1, 50), (80, 50)), "aces", BAND) == SharingDecision()
    assert decide(town((0, 50), (80, 50), (60, 50)), "aces", BAND).donors.keys() == {2, 3}


def test_aces_goes_on_until_no_battery_requires_power() -> None:  # req: A5
    assert decide(town((1, 50), (80, 50), sharing=(2,)), "aces", BAND).donors.keys() == {2}
    assert decide(town((50, 50), (80, 50), sharing=(2,)), "aces", BAND) == SharingDecision()


def test_weights_are_those_that_the_members_agreed_to() -> None:  # req: C2
    batteries = town((40, 50), (80, 50)) | {
        3: BatteryState(level=900, capacity=SMALL_CAPACITY, minimum=500, weight=7),
    }
    assert decide(batteries, "spec", BAND).donors == {2: 1, 3: 7}


def test_help_starts_a_band_below_the_minimum_and_ends_at_it() -> None:
    assert not decide({1: state(491), 2: state(900)}, "spec", BAND).donors
    assert decide({1: state(490), 2: state(900)}, "spec", BAND).donors
    assert decide({1: state(499), 2: state(900, sharing=True)}, "spec", BAND).donors
    assert not decide({1: state(500), 2: state(900, sharing=True)}, "spec", BAND).donors


def state(level: int, *, sharing: bool = False) -> BatteryState:
    return BatteryState(level=level, capacity=SMALL_CAPACITY, minimum=500, sharing=sharing)


def test_battery_whose_minimum_is_within_the_band_is_helped_when_it_is_empty() -> None:
    low = BatteryState(level=0, capacity=SMALL_CAPACITY, minimum=5)
    assert decide({1: low, 2: state(900)}, "spec", BAND).receivers == {1}


def test_full_battery_with_a_minimum_of_all_it_holds_is_done_receiving() -> None:
    assert decide(town((100, 100), (90, 50), sharing=(2,)), "spec", BAND) == SharingDecision()


def test_battery_that_can_not_be_commanded_receives_and_never_gives() -> None:  # req: C2, K5
    batteries = {
        1: BatteryState(level=900, capacity=SMALL_CAPACITY, minimum=500, shares=False),
        2: BatteryState(level=100, capacity=SMALL_CAPACITY, minimum=500, shares=False),
    }
    assert decide(batteries, "spec", BAND) == SharingDecision({}, frozenset({2}))
    batteries[3] = BatteryState(level=800, capacity=SMALL_CAPACITY, minimum=500)
    assert decide(batteries, "spec", BAND) == SharingDecision({3: 1}, frozenset({2}))


@pytest.mark.parametrize("strategy", NAMES)
@pytest.mark.parametrize("level", [-1, SMALL_CAPACITY + 1, 2**53])
def test_battery_with_a_level_that_can_not_be_neither_gives_nor_receives(strategy: str, level: int) -> None:
    batteries = {1: state(level, sharing=True), 2: state(0), 3: state(900)}
    assert decide(batteries, strategy, BAND).donors.keys() == {3}
    assert reasons(batteries, strategy, BAND)[1] is RoleReason.IMPOSSIBLE


def test_batteries_near_their_minimum_are_watched_closely() -> None:
    assert near_minimum(town((40, 50), (50, 50), (55, 50), (56, 50)), 50) == {1, 2, 3}


# Flapping


def switches(strategy: str, samples: list[list[int]], minimum: int = 500) -> list[int]:
    """Count how often each battery starts or stops to share, by its levels."""
    held: frozenset[int] = frozenset()
    told = [held]
    for levels in samples:
        batteries = {
            meter: BatteryState(level=level, capacity=SMALL_CAPACITY, minimum=minimum, sharing=meter in held)
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


def sharing_town() -> dict[str, Any]:
    view = empty()
    add_battery(view, "1", "house 1", 21)
    add_battery(view, "2", "house 2", 82)
    add_battery(view, "3", "house 3", 30.5)
    add_battery(view, "4", "house 4", 66)
    decided(view, unconfirmed=("4",))
    return view


def why(view: dict[str, Any]) -> dict[str, tuple[str, str]]:
    places = view["meter_states"]
    return {places[meter]["place"]: (one["role"], one["why"]) for meter, one in view["batteries"].items()}


def test_house_2_comes_before_house_10() -> None:
    view = empty()
    for n in (10, 2, 1):
        add_battery(view, str(n), f"house {n}", 20)
    assert words(view).startswith("house 1, house 2 and house 10 are below")


def test_who_shares_and_why_is_said_in_words() -> None:
    view = sharing_town()
    assert words(view) == "house 1 is below its minimum, so house 2 and house 4 share."
    said = why(view)
    assert said["house 1"] == ("receives", "Below its minimum.")
    assert said["house 2"] == ("gives", "Above its minimum, and another battery needs help.")
    assert said["house 3"] == ("rests", "Less than 1 % of its capacity above its minimum: too close to share.")
    assert "not confirmed the command yet" in said["house 4"][1]


def test_nobody_needs_help() -> None:
    view = sharing_town()
    view["batteries"]["1"]["level"] = view["batteries"]["2"]["level"]
    decided(view)
    assert words(view) == "No battery shares: none is below its minimum."
    assert why(view)["house 2"] == ("rests", "Above its minimum; no battery needs help.")


def test_nobody_can_help() -> None:
    view = empty()
    add_battery(view, "1", "house 1", 21)
    add_battery(view, "3", "house 3", 25)
    assert words(view).startswith("house 1 and house 3 are below the minimum, but no other battery")
    assert why(view)["house 1"] == ("receives", "Below its minimum, but no other battery can share.")


def test_a_battery_that_waits_for_help_and_help_that_has_begun_are_explained() -> None:
    view = empty()
    add_battery(view, "1", "house 1", 29.5)
    add_battery(view, "2", "house 2", 82)
    assert words(view) == (
        "No battery shares yet, though house 1 is below the minimum. "
        "Less than 1 % of its capacity below its minimum: help starts there."
    )
    assert why(view)["house 1"] == ("rests", "Less than 1 % of its capacity below its minimum: help starts there.")
    assert why(view)["house 2"] == ("rests", "Above its minimum; no battery needs help.")
    decided(view, sharing=("2",))
    assert words(view) == "house 1 is below its minimum, so house 2 shares."


def test_each_strategy_explains_itself() -> None:
    view = sharing_town()
    decided(view, strategy="rangers")
    assert why(view)["house 2"][0] == "gives"
    said = "Above its minimum; batteries that already share give first, then larger surpluses."
    assert why(view)["house 4"] == ("rests", said)
    decided(view, strategy="aces")
    assert why(view)["house 1"] == ("rests", "Below its minimum; help starts when a battery is empty.")
    view["batteries"]["1"]["level"] = 11 * 10**6
    decided(view)
    assert why(view)["house 1"] == ("out", "Its meter reports a level that its battery can't have.")


def test_a_battery_whose_level_can_not_be_says_why() -> None:
    view = sharing_town()
    add_battery(view, "5", "house 5", 90, available=False)
    view["batteries"]["5"] |= {"role": "out", "why": reason_of_code(RoleReason.FROZEN, 0).why}
    assert why(view)["house 5"] == ("out", reason_of_code(RoleReason.FROZEN, 0).why)
    assert words(view).endswith("1 battery can't take part.")


def test_batteries_that_are_ready_to_share_without_the_utility_say_so() -> None:
    view = empty()
    add_battery(view, "1", "house 1", 90)
    view["batteries"]["1"]["role"] = "gives"
    why_ready = "the utility does not answer, or help began less than 5 minutes ago"
    assert words(view) == f"house 1 is ready to share: {why_ready}."


def test_a_battery_without_level_or_minimum_says_why() -> None:
    view = empty()
    add_unknown(view, "5", "house 5", RoleReason.NO_LEVEL)
    assert why(view)["house 5"] == ("out", reason_of_code(RoleReason.NO_LEVEL, 0).why)
    assert "not known or too old" in words(view)


def test_many_batteries_are_named_by_number() -> None:
    view = empty()
    for n in range(40):
        add_battery(view, str(100 + n), f"house {n:02d}", 20 if n < 5 else 80)
    assert "house 00, house 01 and 3 other batteries" in words(view)


MOST = 500_000
FLOOR = CAPACITY // 2
DISCHARGE = 5_000_000 * 15 // 3600  # a donor's discharge in a slot: 5 kW


def history(level: list[int], inflow: list[int], outflow: list[int]) -> History:
    missing = [-1] * (WINDOW_SLOTS - len(level))
    return History(
        level=np.array(missing + level),
        inflow=np.array(missing + inflow),
        outflow=np.array(missing + outflow),
        end=START,
        capacity=CAPACITY,
        minimum=CAPACITY // 4,
        most=MOST,
    )


def judged(level: list[int], inflow: int = 0, outflow: int = 0) -> Doubt | None:
    return recorded_of(history(level, [inflow] * len(level), [outflow] * len(level))).doubt


HALF = CAPACITY // 2


@pytest.mark.parametrize(
    ("level", "inflow", "outflow", "doubt"),
    [
        pytest.param([HALF - 900 * i for i in range(300)], 0, 0, None, id="a load from the own battery"),
        pytest.param([HALF - 20_000 * i for i in range(300)], 0, 20_000, None, id="sharing"),
        pytest.param([HALF + 20_000 * i for i in range(300)], 25_000, 0, None, id="sun, less a load"),
        pytest.param([HALF] * 400, 0, 0, None, id="nobody at home for an hour and a half"),
        pytest.param([CAPACITY] * 480, 30_000, 30_000, None, id="full, its sun goes out"),
        pytest.param([0] * 480, 30_000, 0, None, id="empty, its load comes from the loop"),
        pytest.param([CAPACITY // 4] * 480, 30_000, 0, None, id="held at its minimum by sharing"),
        pytest.param([HALF] * 480, 0, 0, Doubt.FROZEN, id="the same for two hours"),
        pytest.param([HALF] * 30, 20_000, 0, Doubt.FROZEN, id="the same, although energy comes in"),
        pytest.param([HALF] * 40, 0, 20_000, Doubt.CONTRADICTING, id="the same, although energy goes out"),
        pytest.param([HALF + 20_000 * i for i in range(60)], 2_000, 0, Doubt.CONTRADICTING, id="rises without energy"),
        pytest.param([HALF] * 9 + [CAPACITY] * 9, 0, 0, Doubt.TOO_FAST, id="a jump up"),
        pytest.param([HALF] * 9 + [HALF // 2] * 9, 0, 0, Doubt.TOO_FAST, id="a jump down"),
        pytest.param([HALF] * 9 + [HALF // 2 - i for i in range(21)], 0, 0, None, id="a jump down, some time ago"),
    ],
)
def test_a_level_is_doubted_only_if_it_cannot_be(
    level: list[int], inflow: int, outflow: int, doubt: Doubt | None
) -> None:
    assert judged(level, inflow, outflow) is doubt


def test_a_gap_in_the_flows_leaves_only_what_follows_it_to_compare() -> None:
    rising = [HALF + 20_000 * i for i in range(60)]
    flows = [0] * 45 + [-1] + [0] * 14
    assert recorded_of(history(rising, flows, [0] * 60)).doubt is None


def test_a_live_level_is_compared_with_the_stored_one() -> None:
    stored = recorded_of(history([HALF - i for i in range(30)], [0] * 30, [0] * 30))
    assert stored.judge(HALF, START + 15) is None
    assert stored.judge(CAPACITY, START + 15) is Doubt.TOO_FAST
    assert stored.judge(CAPACITY, START + 3600) is None, "an hour without a record: nothing speaks against it"
    assert RecordedBattery().judge(CAPACITY, START) is None


@pytest.mark.parametrize("hour", [3, 12, 18])
def test_no_level_of_the_emulated_town_is_doubted(tmp_path: Path, hour: int) -> None:
    (tmp_path / "town.toml").write_text('[[microgrid]]\nid = "r"\nkind = "residential"\nhouses = 5\n')
    town = load_town(tmp_path / "town.toml")
    microgrid = town.microgrids["r"]
    physics = Alone(town, microgrid)
    time = START // 86_400 * 86_400 + hour * 3600
    levels = physics.initial_levels(time)
    donors = dict.fromkeys([m for m in levels if levels[m] > FLOOR], Commanded(sharing=True))
    rows: dict[int, list[tuple[int, int, int]]] = {meter: [] for meter in levels}
    minima = {m.id: m.battery.capacity * m.battery.minimum_percent // 100 for m in microgrid.meters if m.battery}
    intake = {m.location: m.id for m in microgrid.meters if m.id not in levels}
    place = {m.id: m.location for m in microgrid.meters}
    for slot in range(WINDOW_SLOTS):
        step = physics.step(levels, time + 15 * slot, donors)
        levels = step.levels
        for meter in levels:
            own = step.readings[meter]
            into = step.readings[intake[place[meter]]][RecordType.THROUGH]
            rows[meter].append((levels[meter], own[RecordType.GENERATION] + into, own[RecordType.THROUGH]))
    for meter, found in rows.items():
        columns = [list(column) for column in zip(*found, strict=True)]
        past = replace(history(*columns), minimum=minima[meter])
        assert recorded_of(past).doubt is None, meter


# What a person cares about: with any of these meters, how far can a battery fall below its floor?

Report = Callable[[list[int]], int | None]  # from a battery's true levels, what its meter reports; None: nothing

FAULTS: dict[str, Report] = {
    "none": lambda true: true[-1],
    "frozen": lambda true: true[min(len(true) - 1, 60)],
    "lying: nearly full": lambda true: CAPACITY * 9 // 10 if len(true) > 60 else true[-1],
    "lying: more than there is room for": lambda true: CAPACITY + 1 if len(true) > 60 else true[-1],
    "lying: negative": lambda true: -1000 if len(true) > 60 else true[-1],
    "lying: a third too high": lambda true: true[-1] + CAPACITY // 3 if len(true) > 60 else true[-1],
    "creeping up": lambda true: true[-1] + max(0, len(true) - 60) * 9_000,
    "late by ten minutes": lambda true: true[max(0, len(true) - 41)],
    "silent": lambda true: true[-1] if len(true) < 60 else None,
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("seed", [1, 2])
def test_no_donor_is_emptied_below_its_floor_on_a_number_that_cannot_be(fault: str, seed: int) -> None:
    """Batteries that obey blindly: only the gateway's judgement keeps them above their floors."""
    rng = random.Random(seed)
    true = [[rng.randrange(FLOOR - CAPACITY // 5, FLOOR + CAPACITY // 6)] for _ in range(3)]
    true[0] = [FLOOR + CAPACITY // 12]
    seen: list[list[tuple[int, int, int]]] = [[], [], []]
    recorded = [RecordedBattery(), RecordedBattery(), RecordedBattery()]
    sharing = [False] * 3
    last: list[tuple[int, int]] = [(0, -(10**6))] * 3
    for slot in range(600):
        for i in range(3):
            report = FAULTS[fault if i == 0 else "none"](true[i])
            if report is not None:
                last[i] = (report, slot)
        states = {
            i: BatteryState(
                level=last[i][0],
                capacity=CAPACITY,
                minimum=FLOOR,
                available=slot - last[i][1] <= 8 and recorded[i].judge(last[i][0], START + 15 * slot) is None,
                sharing=sharing[i],
            )
            for i in range(3)
        }
        donors = decide(states, "spec", 20).donors
        sharing = [i in donors for i in range(3)]
        needy = [i for i in range(3) if not sharing[i] and true[i][-1] < FLOOR]
        for i in range(3):
            out = DISCHARGE if sharing[i] and needy else 0
            into = DISCHARGE * sum(sharing) // len(needy) if i in needy else 0
            load = rng.randrange(0, 2_000)
            true[i].append(max(0, min(CAPACITY, true[i][-1] - out + into - load)))
            seen[i].append((last[i][0], into, out))
        if slot % 4 == 3:  # records of a minute arrive together
            for i in range(3):
                columns = [list(column) for column in zip(*seen[i][-WINDOW_SLOTS:], strict=True)]
                recorded[i] = recorded_of(replace(history(*columns), minimum=FLOOR, end=START + 15 * slot))
    below = FLOOR - min(true[0])
    own_use = 1_000 * 600
    assert below <= own_use + CAPACITY * 4 // 100, f"{100 * below / CAPACITY:.1f} % below its floor"


def test_the_gateway_says_why_and_a_restart_changes_nothing(tmp_path: Path) -> None:
    world = World(tmp_path / "gateway.db")
    try:
        for meter in (1, 2, 3):
            world.introduce(meter)
        for kind, value in ((1, 0), (2, 80), (3, 20_000)):
            same = readings(1, 1 + 100 * kind, 40, kind=kind)
            level = CAPACITY * value // 100 if kind == 2 else value
            world.put(1, 1 + 100 * kind, [r._replace(reading=level) for r in same])
        # The level stays the same to the milliwatt-hour, while the house sends out a whole battery's worth of energy.
        world.now = START + 600
        for _ in range(2):
            for meter, percent in ((1, 80), (2, 70), (3, 30)):
                world.level(meter, percent)
            view = world.view()
            assert isinstance(view["batteries"], dict)
            assert (view["batteries"]["1"]["role"], view["batteries"]["1"]["why"]) == (
                "out",
                reason_of_code(RoleReason.FROZEN, 0).why,
            )
            assert view["donors"] == ["2"]
            world.crash()
            for meter in (1, 2, 3):
                world.introduce(meter)
    finally:
        world.store.close()


QUARTER = START // QUARTER_S


def part_of(blocks: Blocks) -> Part:
    return Part(0, blocks.key(0), pack(blocks)[0])


def a_part(rng: random.Random, quarter: int) -> Part:
    """Return some slots of a meter's series: late, of the present, or of a clock that is ahead; some contradict."""
    key = (rng.choice((1, 2, 3, 4)), rng.choice((1, 2, 3)), quarter + rng.choice((-9, -3, -1, 0, 0, 0, 0, 1)))
    quality = [rng.choice((0, 0, 0, 0, 1)) for _ in range(SLOTS)]
    return part_of(make_blocks([key], [[rng.randrange(3)] * SLOTS], [quality]))


@pytest.mark.parametrize("seed", range(5))
def test_what_is_read_since_the_last_look_is_what_a_new_gateway_reads(tmp_path: Path, seed: int) -> None:
    rng, world = random.Random(seed), World(tmp_path / "gateway.sqlite")
    core = world.core
    now = START + WINDOW_SLOTS * SLOT_S
    for _ in range(60):
        now += rng.choice((15, 60, 60, 600, 3 * 3600))
        parts = tuple(a_part(rng, now // QUARTER_S) for _ in range(rng.randrange(6)))
        world.store.commit([AppendParts(parts)])
        if rng.random() < 0.1:
            core.register(world.meters)
        kept = core.level_watch._read(now // SLOT_S * SLOT_S)
        anew = LevelWatch(world.store, core.manager, world.meters)._read(now // SLOT_S * SLOT_S)
        assert kept.keys() == anew.keys()
        assert all((kept[key] == anew[key]).all() for key in anew)


def test_a_look_reads_only_what_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it read two hours each minute: a third of a gateway's time at the end of a quarter-hour."""
    rng, world = random.Random(1), World(tmp_path / "gateway.sqlite")
    world.store.commit([AppendParts(tuple(a_part(rng, QUARTER) for _ in range(100)))])
    world.core.level_watch._read(START + 60)
    monkeypatch.delattr("gateway.store.reads.StoreReads.block_parts")
    read: list[Part] = []
    after = world.store.parts_after

    def counted(number: int, first: int) -> list[Part]:
        found = list(after(number, first))
        read.extend(found)
        return found

    monkeypatch.setattr(world.store, "parts_after", counted)
    new = tuple(part_of(make_blocks([(1, 1, QUARTER)], [[n] * SLOTS], [[1] * SLOTS])) for n in range(3))
    world.store.commit([AppendParts(new)])
    for second in (120, 180):
        world.core.level_watch._read(START + second)
    assert [part.payload for part in read] == [part.payload for part in new]


EXCESS = CAPACITY * EXCESS_PERMILLE // 1000


def test_a_level_that_rises_while_nothing_flows_is_doubted() -> None:
    assert judged([HALF + 20_000 * i for i in range(60)]) is Doubt.CONTRADICTING
    assert judged([20_000 * i for i in range(60)]) is Doubt.CONTRADICTING


@pytest.mark.parametrize(("rise", "doubt"), [(EXCESS, None), (EXCESS + 1, Doubt.CONTRADICTING)])
def test_the_last_level_alone_is_doubted_above_the_tolerance(rise: int, doubt: Doubt | None) -> None:
    assert rise < MOST + CAPACITY * JUMP_PERMILLE // 1000, "no jump"
    assert judged([HALF] * 20 + [HALF + rise]) is doubt


def test_a_stored_level_has_the_time_of_its_own_slot() -> None:
    assert recorded_of(history([HALF, HALF + 1], [0, 0], [0, 0])).time == START
    gap = recorded_of(history([HALF, HALF + 1, -1], [0, 0, 0], [0, 0, 0]))
    assert (gap.time, gap.level) == (START - 15, HALF + 1)


@pytest.mark.parametrize(("now", "minutes"), [(0, 10), (1, 10), (540, 1), (599, 1)])
def test_what_is_left_is_said_in_begun_minutes(now: int, minutes: int) -> None:
    states = MicrogridStates(hold_until=600, supply_until=600, import_limit_w=5)
    assert (states.hold_words(now) or "").endswith(f", for {minutes} min more")
    assert (states.limit_words(now) or "").endswith(f", for {minutes} min more")
    assert states.hold_words(600) is states.limit_words(600) is None


def test_a_strategy_for_a_date_takes_the_place_of_another_one_for_it() -> None:
    states = MicrogridStates()
    for n, strategy in enumerate(("aces", "rangers")):
        command = {"id": str(n), "cmd": "sharing", "until": 600, "strategy": strategy, "from_time": 500}
        states = states.set(ControllerCommand.model_validate(command), 100)
    assert [(one.strategy, one.from_time) for one in states.sharing] == [("rangers", 500)]


def test_a_battery_is_shown_as_told_to_share_until_the_commands_end(world: World) -> None:
    def told(later_s: int = 0) -> list[Any]:
        states: Any = view(world.core, world.controller.line, Now(world.core.now + later_s, world.core.now.trust))[
            "meter_states"
        ]
        return [states[str(meter)]["told_to_share"] for meter in (1, 2, 3)]

    households(world, 80, 70, 48)
    assert told() == [True, True, False]
    assert told(SHARE_FOR_S - 1) == [True, True, False]
    assert told(SHARE_FOR_S) == [False] * 3


def test_a_battery_that_rests_is_at_its_minimum_or_too_close_to_it() -> None:
    found = reasons(town((80, 50), (50, 50), (51, 50), (30, 50)), "spec", 20)
    assert found == {1: RoleReason.HELPS, 2: RoleReason.NOTHING_ABOVE, 3: RoleReason.TOO_CLOSE, 4: RoleReason.LOW}


def test_a_battery_in_need_that_nobody_helps_yet_waits_for_the_band_or_as_an_island() -> None:
    assert reasons(town((60, 50), (49, 50)), "spec", 20)[2] is RoleReason.WAITS_BAND
    assert reasons(town((60, 25), (4, 75)), "spec", 20, island=True)[2] is RoleReason.WAITS_ISLAND


def test_outcomes_of_the_minutes_question_displace_no_others(world: World) -> None:
    world.introduce(1)
    world.introduce(1, cmd="get")
    assert [note.cmd for note in world.core.manager.notes] == ["initialize"]


@pytest.mark.parametrize(("trust", "moved_s", "is_stored"), [(Trust.NONE, 600, False), (Trust.HARDWARE, 0, True)])
def test_a_state_set_by_a_hardware_clock_keeps_its_end_when_the_time_is_set(
    world: World, trust: Trust, moved_s: int, is_stored: bool
) -> None:
    command = ControllerCommand(id="1", cmd="reduce", until=START + 600, state="on", for_s=900)
    now, modes = Now(START, trust), world.core.modes
    modes.set(command, now)
    assert bool(modes.shift(600, now)) is is_stored, "a time that may be wrong is not stored"
    assert modes.states.reduce_until == START + 900 + moved_s


def test_a_place_is_isolated_at_the_meter_of_its_battery_and_is_off_until_the_commands_end(world: World) -> None:
    registry = {meter: registered(meter, battery=meter != 2) for meter in (1, 2, 3)}
    registry[3] = registry[3].model_copy(update={"location": registry[2].location})
    rotation, manager, now = Rotation("r001", world.core.manager), world.core.manager, world.core.now
    rotation.register(registry)
    assert rotation.meters == (1, 3)
    manager.order(3, Kind.ISOLATED, "on", now + 900, now)
    for later, off in ((0, [False, True]), (899, [False, True]), (900, [False, False])):
        assert rotation._row(Now(now + later, now.trust), 0).off[0].tolist() == off


@pytest.mark.parametrize(("trust", "is_duration"), [(Trust.NONE, True), (Trust.HARDWARE, False)])
def test_the_end_of_a_command_is_a_time_as_soon_as_the_clock_is_trusted(
    world: World, trust: Trust, is_duration: bool
) -> None:
    manager, now = world.core.manager, Now(START, trust)
    (command,) = commands(world.do(manager.order(1, Kind.ISOLATED, "on", START + 600, now)))
    assert (command.for_s, command.until) == ((600, None) if is_duration else (None, START + 600))


def test_what_is_told_of_a_meter_says_whether_its_place_has_a_battery(world: World) -> None:
    manager, now = world.core.manager, Now(START, Trust.NETWORK)
    told = meter_states(world.meters, manager, now)
    assert {meter: one["battery"] for meter, one in told.items()} == {"1": True, "2": True, "3": True, "4": False}  # type: ignore[index]
