"""Buying: the forecast, what is known when it is decided, and what each policy buys, and why."""

from dataclasses import replace
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commonwatt.model.calendar import local_hour, to_local, to_utc
from commonwatt.model.control import SupplyState
from commonwatt.model.units import QUARTER_S, SLOTS
from commonwatt.protocol.plant_messages import PlantQuarter, PlantReport
from commonwatt.town.town import TownTable
from utility.supply.buying import AcesRule, BuyFacts, PlantSituation, Storm, by_clock, by_price
from utility.supply.deciding import (
    AHEAD_S,
    PlantFacts,
    days_before,
    history_of,
    like_day,
    like_hours,
    planned_need,
    plant_lasts_until,
    plant_of,
    prices_from,
    unknown,
)
from utility.supply.planner import (
    LIMIT_S,
    POLICIES,
    BuyingPlan,
    HighsSolver,
    Planner,
    Problem,
    quantile_permille,
    steps_of,
)

ZONE = ZoneInfo("America/New_York")
KWH = 1_000_000
PLANT = PlantSituation(
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


def at(hour: int, level: int, *, load: int = LOAD, day: int = 10, plant: PlantSituation = PLANT) -> BuyFacts:
    """The situation at a local hour of a July day with steady load and the two prices of T5."""
    now = int(datetime(2026, 7, day, hour, tzinfo=ZONE).timestamp())
    hours = (hour + np.arange(192) // 4) % 24
    return BuyFacts(
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

    def slow(problem: Problem, limit_s: float) -> BuyingPlan | None:
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

    def kept(problem: Problem, limit_s: float) -> BuyingPlan | None:
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
    lambda quarter, level, line, load, prices, days, storm: BuyFacts(
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
def test_every_start_has_an_answer_within_the_limits_with_a_reason(situation: BuyFacts) -> None:
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
def test_steps_cover_the_prices_and_hours_begin_on_the_clock(situation: BuyFacts) -> None:
    edges = steps_of(situation)
    assert len(edges) == 52
    assert edges[0] == 0
    assert (np.diff(edges) >= 0).all()
    assert edges[-1] <= len(situation.prices)
    inside = edges[7:][edges[7:] < len(situation.prices)]
    assert ((situation.now // 900 + inside) % 4 == 0).all()


QUARTER = 1_988_892
START = QUARTER * QUARTER_S
REPORT = PlantReport(
    time=START,
    level_mwh=50_000,
    capacity_mwh=100_000,
    battery_limit_w=1,
    line_w=1,
    supply=SupplyState.LOW,
    prices=((START - 900, 1_000), (START + 900, 1_500)),
    prices_until=START + 4 * QUARTER_S,
)
FACTS = PlantFacts(
    now=START,
    is_trusted=True,
    seen=(START, REPORT),
    quarters=(),
    zone=ZoneInfo("UTC"),
    peak_hours=(),
    reserve_permille=250,
)


def measured(quarter: int, net: int = 0, *, slots: int = SLOTS, level: int = 0) -> PlantQuarter:
    return PlantQuarter(quarter, slots, ordered=0, needed=0, sold=0, net=net, level=level)


@pytest.mark.parametrize(
    ("changed", "is_known"),
    [
        ({"time": START + AHEAD_S}, True),
        ({"time": START + AHEAD_S + 1}, False),
        ({"level_mwh": -5_000}, True),
        ({"level_mwh": -5_001}, False),
        ({"level_mwh": 105_000}, True),
        ({"level_mwh": 105_001}, False),
    ],
)
def test_a_report_is_believed_within_its_tolerances_only(changed: dict[str, int], is_known: bool) -> None:
    facts = replace(FACTS, seen=(START, REPORT.model_copy(update=changed)))
    assert (unknown(facts) is None) == is_known


def test_the_reserve_is_a_part_of_the_capacity_and_nothing_without_a_report() -> None:
    assert FACTS.reserve == 25_000
    assert replace(FACTS, seen=None).reserve == 0
    found = plant_of(FACTS, REPORT)
    assert (found.floor, found.reserve, found.level) == (0, 25_000, 50_000)


def test_history_is_of_every_quarter_and_a_missing_one_is_that_of_another_day() -> None:
    quarters = [measured(QUARTER - 200 + n, n) for n in range(200)]
    assert history_of(quarters, QUARTER).tolist() == list(range(200))
    quarters[150] = measured(QUARTER - 50, 999, slots=SLOTS - 1)
    assert history_of(quarters, QUARTER)[150] == 150 - 96
    assert not len(history_of([], QUARTER))


@pytest.mark.parametrize(("until", "prices"), [(4, [1000, 1500, 1500, 1500]), (1, [1000]), (-9, [1000])])
def test_prices_are_those_announced_and_at_least_one(until: int, prices: list[int]) -> None:
    report = REPORT.model_copy(update={"prices_until": START + until * QUARTER_S})
    assert prices_from(report, QUARTER).tolist() == prices


@pytest.mark.parametrize(("level", "energy"), [(50_000, 20_000), (30_000, 30_000), (20_000, 20_000)])
def test_the_plant_lasts_to_its_reserve_or_at_and_below_it_until_it_is_empty(level: int, energy: int) -> None:
    """10,000 mWh were used in the last quarter-hour; 30,000 are kept."""
    quarters = (measured(QUARTER - 2, level=level + 10_000),)
    report = REPORT.model_copy(update={"level_mwh": level, "keep_mwh": 30_000, "quarters": quarters})
    assert plant_lasts_until(report) == START + energy // 10_000 * QUARTER_S


def epoch(*when: int) -> int:
    return int(datetime(*when, tzinfo=ZONE).timestamp())  # type: ignore[arg-type,misc]


@pytest.mark.parametrize("day", [(2026, 3, 8), (2026, 3, 9), (2026, 11, 1), (2026, 11, 2), (2026, 7, 1)])
def test_forecast_is_of_the_same_local_hour_on_days_of_23_24_and_25_hours(day: tuple[int, int, int]) -> None:
    now = epoch(*day)
    past = np.arange(now // 900 - 34 * 96, now // 900, dtype=np.int64)
    rows = days_before(now, 96, 4, local_hour(past, ZONE), ZONE)
    hours = local_hour(now // 900 + np.arange(96, dtype=np.int64), ZONE)
    for row in rows[1:]:
        # Only the hour that one of the days does not have is another hour's.
        assert (row != hours).sum() <= 4


def test_local_time_and_back() -> None:
    quarters = np.arange(epoch(2026, 1, 1) // 900, epoch(2027, 1, 1) // 900, dtype=np.int64)
    local = to_local(quarters, ZONE)
    for place in range(0, len(quarters), 97):
        wall = datetime.fromtimestamp(int(quarters[place]) * 900, ZONE).replace(tzinfo=UTC)
        assert int(wall.timestamp()) // 900 == local[place]
    # Only the hour that comes twice has two times.
    assert (to_utc(local, ZONE) != quarters).sum() <= 4


def test_planned_need_of_a_steady_load_is_the_load() -> None:
    edges = np.array([0, 1, 2, 4, 8, 100, 192])
    need = planned_need(epoch(2026, 7, 1), edges, np.full(3264, 7, np.int64), ZONE, 900)
    assert need.tolist() == (7 * np.diff(edges)).tolist()


def test_planned_need_is_more_than_nine_of_ten_days_needed() -> None:
    random = np.random.default_rng(1)
    history = random.integers(0, 1000, 60)[:, None].repeat(96, axis=1).ravel().astype(np.int64)
    now = epoch(2026, 7, 1)
    edges = np.array([0, 96])
    need = int(planned_need(now, edges, history[-3264:], ZONE, 900)[0])
    median = int(planned_need(now, edges, history[-3264:], ZONE, 500)[0])
    assert need > median + 200 * 96


def test_need_that_repeats_each_day_is_forecast_in_its_own_step() -> None:
    now = epoch(2026, 7, 1)
    history = np.full(33 * 96, 1000, np.int64)
    history[4::96] = 9000
    need = planned_need(now, np.arange(9), history, ZONE, 500)
    assert need.tolist() == [1000] * 4 + [9000] + [1000] * 3


def test_last_quarter_corrects_the_first_step_and_fades_in_the_next_ones() -> None:
    history = np.full(33 * 96, 1000, np.int64)
    history[-1] = 5000
    need = planned_need(epoch(2026, 7, 1), np.arange(5), history, ZONE, 500)
    # The first is the last quarter's; what it has more than 95 % of the error is taken from the second.
    assert need[0] == 5000
    assert np.cumsum(need)[1:].tolist() == pytest.approx([9410, 13_840, 18_098], abs=1)


def test_short_history_is_enough() -> None:
    need = planned_need(epoch(2026, 7, 1), np.array([0, 4, 192]), np.array([5], np.int64), ZONE, 900)
    assert need.tolist() == [20, 940]


def test_what_history_lacks_repeats_its_first_day_and_what_is_still_to_come_its_last() -> None:
    history = np.arange(2 * 96, dtype=np.int64)
    rows = days_before(epoch(2026, 7, 1), 96, 4, history, ZONE)
    first, last = history[:96].tolist(), history[96:].tolist()
    assert rows.tolist() == [last, last, first, first]


def test_like_day_is_a_weekday_for_a_weekday() -> None:
    monday, sunday = date(2026, 7, 6), date(2026, 7, 5)
    assert like_day(monday, 1) == date(2026, 7, 3)
    assert like_day(sunday, 1) == date(2026, 7, 4)
    assert like_day(sunday, 2) == date(2026, 6, 28)


def test_like_hours_are_the_same_local_hour_and_skip_a_day_without_it() -> None:
    """# req: A8"""
    assert like_hours(epoch(2026, 7, 6, 14, 40), ZONE)[:2] == [epoch(2026, 7, 3, 14), epoch(2026, 7, 2, 14)]
    # Sunday 8 March 2026 has no 02:00.
    assert like_hours(epoch(2026, 3, 14, 2, 10), ZONE)[0] == epoch(2026, 3, 7, 2)


@pytest.mark.parametrize("permille", [500, 900])
def test_planned_need_is_as_a_plain_reference_computes_it(permille: int) -> None:
    """Days of random needs, in UTC: row ``d`` is what was needed ``d`` days before at the same times."""
    horizon = 192
    history: list[int] = np.random.default_rng(permille).integers(0, 10_000, 40 * 96).tolist()

    def needed(day: int, quarter: int) -> int:
        """The need ``quarter`` quarters after now, ``day`` days ago; what is not over is that of the day before."""
        at = quarter - 96 * day
        return history[at - 96 * (at // 96 + 1)] if at >= 0 else history[at]

    def guess(day: int, quarter: int) -> float:
        """What was forecast on that day: the day before, corrected by the last quarter's error, which fades."""
        off = needed(day, -1) - needed(day + 1, -1)
        return needed(day + (1 if quarter < 96 else 2), quarter) + off * 0.95 ** (quarter + 1)

    wanted = []
    for end in range(1, horizon + 1):
        errors = sorted(sum(needed(d, q) - guess(d, q) for q in range(end)) for d in range(2, 30))
        wanted.append(sum(guess(0, q) for q in range(end)) + errors[28 * permille // 1000])
    change = max(needed(day, 0) - needed(day, -1) for day in range(2, 30))
    wanted[0] = max(wanted[0], needed(0, -1) + change)
    need = planned_need(epoch(2026, 7, 1), np.arange(horizon + 1), np.array(history), ZoneInfo("UTC"), permille)
    assert np.cumsum(need).tolist() == pytest.approx(wanted, abs=1)
