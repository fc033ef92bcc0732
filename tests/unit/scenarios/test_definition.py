"""Scenarios' files are checked, and their conditions hold when and where the files say."""

from datetime import date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from commonwatt.model.exceptions import ConfigError
from commonwatt.town.scenario import Conditions, load, names
from commonwatt.town.town import TownTable

ZONE = ZoneInfo("America/New_York")
USUAL = TownTable()  # 150 % from 15 to 21 o'clock


def conditions(name: str, seed: int = 1) -> Conditions:
    return Conditions(scenario=load(name), zone=ZONE, seed=seed)


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZONE).timestamp())


@pytest.mark.parametrize("name", names())
def test_every_scenario_that_comes_with_the_program_is_good(name: str) -> None:
    it = conditions(name)
    assert it.end() > it.begin
    assert it.scenario.title


def test_a_wrong_file_is_refused_by_key_and_line(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text('title = "x"\nstart = 2026-05-04\n[[outage]]\nwhat = "feeder"\nfrom_hour = 0\nfor_hours = -1\n')
    with pytest.raises(ConfigError, match=r"x\.toml: line 6: outage\.0\.for_hours"):
        load(str(file))
    with pytest.raises(ConfigError, match="no scenario and no file; there are: change, cloudy"):
        load("calm")


def test_the_heat_wave_has_the_specifications_factors() -> None:  # req: N2
    it = conditions("heatwave")
    noon, night = at("2026-07-15 12:00"), at("2026-07-15 23:00")
    assert [it.demand_percent(of, noon) for of in ("apartment", "public", "house")] == [200, 105, 120]
    assert [it.demand_percent(of, night) for of in ("apartment", "public", "house")] == [200, 105, 105]
    assert it.scenario.days == 7


def test_a_home_that_neighbours_help_until_the_end_never_uses_more_than_its_service_carries() -> None:  # req: N1
    it = conditions("normal")
    level, service, load = 20_000_000, 200_000, 5_000
    used = []
    for time in range(at("2026-06-15 17:00"), at("2026-06-15 20:00"), 15):
        drop = it.drop(time)
        assert drop is not None
        used.append(drop.use(level, 28_800_000, 15, service - load))
    assert (min(used), max(used)) == ((level - 7_200_000) * 15 // 10_800, service - load)
    assert it.drop(at("2026-06-15 20:00")) is None


@pytest.mark.parametrize(("day", "hour"), [(date(2026, 6, 15), 10), (date(2026, 11, 1), 0), (date(2026, 11, 1), 10)])
def test_homes_use_their_batteries_up_in_local_hours_whenever_the_scenario_begins(day: date, hour: int) -> None:
    scenario = load("normal").model_copy(update={"start": day, "start_hour": hour})
    it = Conditions(scenario=scenario, zone=ZONE, seed=1)
    found = {time: it.drop(time) for time in range(it.begin, it.end(1), 15)}
    drops = {datetime.fromtimestamp(time, ZONE): drop for time, drop in found.items() if drop is not None}
    assert {at.hour for at in drops} == {17, 18, 19}
    assert [drop.left_s for drop in drops.values()] == list(range(10_800, 0, -15))
    assert {drop.day for drop in drops.values()} == {0}


def test_the_storm_meets_half_the_residential_microgrids_for_twelve_hours() -> None:  # req: N3
    it = conditions("storm")
    dead = [it.out("feeder", it.begin + hour * 3600, 800) for hour in range(72)]
    assert [int(met.sum()) for met in dead] == [0] * 36 + [400] * 12 + [0] * 24
    assert all((met == dead[36]).all() for met in dead[36:48])
    assert [it.is_out("broadband", it.begin + hour * 3600) for hour in (23, 24, 35, 36)] == [False, True, True, False]
    assert (conditions("storm", seed=2).out("feeder", it.begin + 40 * 3600, 800) != dead[40]).any()


def test_habits_and_prices_change_on_their_day_and_grow_slowly() -> None:  # req: N4
    it = conditions("change")
    before, after = at("2026-03-08 12:00"), at("2026-03-09 12:00")
    assert [it.demand_percent("house", time) for time in (before, after)] == [103, 130]
    assert [it.price_percent(time, USUAL) for time in (before, after)] == [100, 150]
    assert [it.price_percent(at(f"2026-03-{day} 20:00"), USUAL) for day in ("08", "09")] == [150, 100]
    assert it.demand_percent("apartment", after) is None


def test_a_scenario_over_the_change_of_clocks_ends_at_local_midnight() -> None:
    it = conditions("change")
    assert it.end() - it.begin == 21 * 86_400 - 3600


def test_a_scenario_without_prices_has_the_towns_own() -> None:
    it = conditions("normal")
    assert [it.price_percent(at(f"2026-05-05 {hour}:00"), USUAL) for hour in (14, 15, 20, 21)] == [100, 150, 150, 100]


def test_supply_is_normal_unless_the_file_says_otherwise(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    state = '[[supply]]\nstate = "CRITICAL"\nfrom_hour = 1\nfor_hours = 2\n'
    file.write_text(f'title = "x"\nstart = 2026-05-04\n{state}')
    it = conditions(str(file))
    assert [it.supply(it.begin + hour * 3600) for hour in range(4)] == ["NORMAL", "CRITICAL", "CRITICAL", "NORMAL"]
