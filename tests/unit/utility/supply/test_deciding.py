"""From the plant's report to a decision: what is known, the history of the net load, prices, how long it lasts."""

from dataclasses import replace
from zoneinfo import ZoneInfo

import pytest

from commonwatt.model.control.supply import SupplyState
from commonwatt.model.units import QUARTER_S, SLOTS
from commonwatt.protocol.plant_messages import PlantQuarter, PlantReport
from utility.supply.deciding import AHEAD_S, Facts, history_of, plant_lasts_until, plant_of, prices_from, unknown

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
FACTS = Facts(
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
