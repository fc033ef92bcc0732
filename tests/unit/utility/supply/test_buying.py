"""Buying: what each policy buys in the next quarter-hour, and why."""

from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commonwatt.town.file import TownTable
from utility.supply.buying.planner import LIMIT_S, Planner, quantile_permille, steps_of
from utility.supply.buying.policies import POLICIES
from utility.supply.buying.program import HighsSolver, Plan, Problem
from utility.supply.buying.rules import AcesRule, by_clock, by_price
from utility.supply.buying.situation import Situation, Storm
from utility.supply.plant import Plant

ZONE = ZoneInfo("America/New_York")
KWH = 1_000_000
PLANT = Plant(
    level=60 * KWH,
    capacity=120 * KWH,
    floor=6 * KWH,
    reserve=30 * KWH,
    power_w=30_000,
    loss_permille=100,
    line_w=20_000,
)
"""A plant for a mean load of 10 kW; a quarter-hour of it is 2.5 kWh."""

UNHURRIED_S = 600.0  # a busy machine may need more than the planner's own limit

LOAD = 2_500_000
LINE = 5 * KWH


def at(hour: int, level: int, *, load: int = LOAD, day: int = 10, plant: Plant = PLANT) -> Situation:
    """The situation at a local hour of a July day with steady load and the two prices of T5."""
    now = int(datetime(2026, 7, day, hour, tzinfo=ZONE).timestamp())
    hours = (hour + np.arange(192) // 4) % 24
    return Situation(
        now=now,
        plant=replace(plant, level=level * KWH),
        prices=np.where((hours >= 15) & (hours < 21), 1500, 1000).astype(np.int64),
        credit=800,
        history=np.full(34 * 96, load, np.int64),
        zone=ZONE,
        peak_hours=tuple(range(15, 21)),
    )


@pytest.mark.parametrize(
    ("policy", "hour", "level", "energy", "words"),
    [
        # req: U4. Below the target: the load and what line and battery take; at the target residents' power first.
        ("spec", 3, 50, LINE, "refill"),
        ("spec", 3, 120, 0, "residents' power first"),
        ("spec", 16, 50, 0, "battery"),
        ("spec", 16, 30, LOAD, "lower level"),
        ("spec", 16, 29, LOAD + 1_111_112, "lower level"),
        # req: A8. Evenly to a full battery at 15:00; in peak hours only at the reserve.
        ("aces", 11, 120, LOAD, "full when peak hours start"),
        ("aces", 11, 104, LOAD + 1_111_112, "full when peak hours start"),
        ("aces", 15, 31, LOAD - KWH, "peak"),
        ("aces", 20, 30, LOAD, "critically low"),
        # req: P5. Up to 75 % off-peak, from the battery above 25 % in peak hours.
        ("rangers", 3, 60, LINE, "upper level"),
        ("rangers", 3, 91, 0, "upper level"),
        ("rangers", 3, 90, LOAD, "upper level"),
        ("rangers", 15, 90, 0, "peak"),
        ("rangers", 15, 30, LOAD, "peak"),
    ],
)
def test_rule_buys(policy: str, hour: int, level: int, energy: int, words: str) -> None:
    purchase = POLICIES[policy]()(at(hour, level))
    assert purchase.energy == energy
    assert words in purchase.reason


@pytest.mark.parametrize("policy", ["aces", "rangers"])
def test_the_last_quarter_hour_before_peak_hours_is_off_peak(policy: str) -> None:
    situation = at(14, 60)
    bought = POLICIES[policy]()(replace(situation, now=situation.now + 2_700))
    assert bought.reason.startswith("off-peak")
    assert bought.energy > LOAD


def test_rangers_serves_in_peak_hours_above_a_quarter_however_low_the_reserve_is() -> None:  # req: P5
    low = replace(PLANT, reserve=12 * KWH)
    assert POLICIES["rangers"]()(at(15, 31, plant=low)).energy == LOAD - KWH, "down to a quarter"
    assert POLICIES["rangers"]()(at(15, 29, plant=low)).energy == LOAD + 1_111_112, "and up to it"
    assert POLICIES["rangers"]()(at(15, 20, plant=low)).energy == LINE


def test_spec_leaves_room_for_what_residents_exported_on_the_last_day() -> None:
    situation = at(3, 90)
    history = situation.history.copy()
    history[-40:-20] = -2 * KWH  # 40 kWh, of which 36 kWh stay: the target is 84 kWh.
    assert POLICIES["spec"]()(replace(situation, history=history)).energy == 0
    assert POLICIES["spec"]()(situation).energy == LINE


def test_peak_hours_are_read_from_the_clock_or_from_the_prices() -> None:
    flat = replace(at(14, 60), prices=np.full(192, 1000, np.int64))
    assert by_clock(flat).sum() == 24
    assert not by_price(flat).any()
    assert by_price(at(14, 60)).tolist() == by_clock(at(14, 60)).tolist()


def test_peak_hours_by_the_clock_are_those_of_the_town_file_over_midnight_too() -> None:
    table = TownTable(peak_start_hour=22, peak_end_hour=4)
    night = replace(at(21, 60), peak_hours=table.peak_hours)
    assert np.flatnonzero(by_clock(night)).tolist() == list(range(4, 28)), "from 22:00 to 04:00, seen from 21:00"
    bought = AcesRule()(replace(night, now=night.now + 6 * 3600))
    assert "peak hours" in bought.reason, "at 03:00"


def test_planner_fills_before_peak_hours_serves_in_them_and_says_so() -> None:
    planner = Planner(limit_s=UNHURRIED_S)
    before = planner(at(11, 60))
    assert before.energy > LOAD
    assert "energy for later" in before.reason
    within = planner(at(16, 110))
    assert within.energy == 0
    assert "the battery serves" in within.reason


def test_planner_restores_the_reserve_at_any_price() -> None:
    situation = at(11, 29)
    prices = situation.prices.copy()
    prices[0] = 30_000
    bought = Planner(limit_s=UNHURRIED_S)(replace(situation, prices=prices))
    assert bought.energy == pytest.approx(LOAD + KWH / 0.9, rel=0.001)


def test_planner_buys_no_more_than_the_load_and_the_battery_take() -> None:
    weak = replace(PLANT, power_w=2_000)
    bought = Planner(limit_s=UNHURRIED_S)(at(11, 20, plant=weak))
    assert bought.energy == pytest.approx(LOAD + weak.power_quarter, rel=0.001)


def test_a_plant_may_keep_its_whole_battery() -> None:
    assert replace(PLANT, reserve=PLANT.capacity).reserve == PLANT.capacity
    with pytest.raises(ValueError, match="reserve <= capacity"):
        replace(PLANT, reserve=PLANT.capacity + 1)


def test_planner_leaves_room_for_residents_exports_that_it_expects() -> None:
    """Of a sunny noon's exports nothing is refused for energy that was bought in the night before."""
    situation = at(3, 90)
    day = np.full(96, LOAD // 2, np.int64)
    day[28:56] = -1_500_000  # 10:00 to 17:00 local, seen from 03:00: 42 kWh.
    bought = Planner(limit_s=UNHURRIED_S)(replace(situation, history=np.tile(day, 34)))
    assert bought.energy <= LOAD
    assert Planner(limit_s=UNHURRIED_S)(situation).energy > LOAD, "without exports it buys"


def test_planner_holds_a_full_battery_for_an_announced_storm() -> None:
    situation = at(16, 80)
    storm = Storm(start=situation.now + 3 * 3600, end=situation.now + 15 * 3600)
    held = Planner(limit_s=UNHURRIED_S)(replace(situation, storm=storm))
    assert held.energy == LINE
    assert "storm" in held.reason
    assert Planner(limit_s=UNHURRIED_S)(situation).energy == 0


def test_planner_buys_the_cheapest_of_prices_that_change_each_hour() -> None:
    situation = at(3, 60)
    prices = situation.prices.copy()
    prices[:4] = 300
    assert Planner(limit_s=UNHURRIED_S)(replace(situation, prices=prices)).energy == LINE
    prices[:8] = [3000] * 4 + [300] * 4
    assert Planner(limit_s=UNHURRIED_S)(replace(situation, prices=prices)).energy == 0


@pytest.mark.parametrize(
    ("prices", "permille"),
    [
        ([1000, 1000], 900),  # Nothing is dear.
        ([1000, 1500], 900),  # Energy to spare was bought at the price of what it replaces.
        ([1000, 3000, 8000], 857),  # It costs 1000 more than the cheapest, a lack 6000.
        ([1000, 4000, 4500, 8001], 691),
        ([1000, *[5000] * 9, *[5100] * 9, 9100], 500),
    ],
)
def test_planner_is_the_less_careful_the_more_energy_to_spare_costs(prices: list[int], permille: int) -> None:
    assert quantile_permille(np.array(prices)) == permille


def test_rule_decides_after_100_ms_without_a_plan() -> None:
    asked: list[float] = []

    def slow(problem: Problem, limit_s: float) -> Plan | None:
        assert len(problem.need) == len(problem.price)
        asked.append(limit_s)
        return None

    situation = at(11, 104)
    purchase = Planner(solve=slow)(situation)
    assert asked == [LIMIT_S] == [0.1]
    assert purchase.energy == AcesRule(peak=by_price)(situation).energy
    assert purchase.reason.startswith("no plan within 100 ms; by rule: off-peak")


def test_highs_gives_up_at_its_limit_and_answers_the_next_time() -> None:
    solve, asked = HighsSolver(), list[Problem]()

    def kept(problem: Problem, limit_s: float) -> Plan | None:
        asked.append(problem)
        return solve(problem, limit_s)

    # A limit of 0 s is over before the first answer.
    planner = Planner(solve=lambda problem, _: kept(problem, 0.0))
    assert "by rule" in planner(at(11, 60)).reason
    assert solve(asked[0], 10.0) is not None


def test_planner_without_history_follows_its_rule() -> None:
    situation = replace(at(11, 60), history=np.empty(0, np.int64))
    assert "no history" in Planner(limit_s=UNHURRIED_S)(situation).reason


def test_situation_refuses_a_time_off_the_grid_and_no_prices() -> None:
    with pytest.raises(ValueError, match="not the start"):
        replace(at(3, 60), now=at(3, 60).now + 1)
    with pytest.raises(ValueError, match="no prices"):
        replace(at(3, 60), prices=np.empty(0, np.int64))
    with pytest.raises(ValueError, match="reserve"):
        replace(PLANT, reserve=130 * KWH)


_ONE = Planner(limit_s=UNHURRIED_S)
_SITUATIONS = st.builds(
    lambda quarter, level, line, load, prices, days, storm: Situation(
        now=1_772_928_000 + quarter * 900,  # From 8 March 2026 on: the clock changes.
        plant=replace(PLANT, level=level * KWH // 10, line_w=line),
        prices=np.asarray(prices, np.int64),
        credit=800,
        history=np.resize(np.asarray(load, np.int64) * 10_000, days),
        zone=ZONE,
        peak_hours=tuple(range(15, 21)),
        storm=Storm(start=1_772_928_000 + storm * 900, end=1_772_928_000 + (storm + 48) * 900) if storm else None,
    ),
    st.integers(0, 200),
    # 0 % and 101 % of the capacity, and beyond both.
    st.sampled_from([-10, 0, 59, 61, 299, 300, 1200, 1212, 1500]) | st.integers(0, 1212),
    st.sampled_from([0, 3_000, 10_000, 20_000]),
    st.lists(st.integers(-900, 1500), min_size=1, max_size=9),
    st.lists(st.integers(0, 3000), min_size=1, max_size=192),
    st.sampled_from([1, 95, 960, 3264]),
    st.integers(0, 100),
)


@settings(max_examples=150, deadline=None)
@given(situation=_SITUATIONS)
def test_every_start_has_an_answer_within_the_limits_with_a_reason(situation: Situation) -> None:
    plant = situation.plant
    for name, make in POLICIES.items():
        policy = _ONE if name == "planner" else make()
        purchase = policy(situation)
        assert 0 <= purchase.energy <= plant.line_quarter, name
        assert purchase.reason
        assert "no plan" not in purchase.reason, "the program is always feasible"
        if name != "planner":
            assert purchase.energy <= max(0, situation.expected + plant.power_quarter), name


@given(situation=_SITUATIONS)
def test_steps_cover_the_prices_and_hours_begin_on_the_clock(situation: Situation) -> None:
    edges = steps_of(situation)
    assert len(edges) == 52
    assert edges[0] == 0
    assert (np.diff(edges) >= 0).all()
    assert edges[-1] <= len(situation.prices)
    inside = edges[7:][edges[7:] < len(situation.prices)]
    assert ((situation.now // 900 + inside) % 4 == 0).all()
