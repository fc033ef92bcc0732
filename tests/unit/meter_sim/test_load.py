"""Load and weather, and the load after a time without energy (C5)."""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from numpy.typing import NDArray

from commonwatt.energy.places import Places, blocks_of, cold_after, cold_load
from commonwatt.town.loading import town_of
from commonwatt.town.town import Function, Town, TownFile, TownTable
from meter_sim.load import (
    COMFORT_C,
    DAY_S,
    DAY_SLOTS,
    MEAN_STRESS_C,
    OVERCAST_LOSS,
    OVERCAST_SHARE,
    Consumer,
    Loads,
    Sun,
    Weather,
    _Group,
    apparent_zenith,
    chance,
    seed_of,
)
from meter_sim.physics import Circumstances, MeteredTown
from meter_sim.world import FleetWorld

TOWN = TownTable()
DAY = 20_454  # 2026-01-01


def consumer(
    place: str = "r001/house 1", function: Function = Function.HOUSE, average_w: int = 1200, seed: int = 1
) -> Consumer:
    return Consumer(seed=seed, place=place, function=function, average_w=average_w, timezone=TOWN.timezone)


def load_mwh(one: Consumer, time: int, temperature: float) -> int:
    """The load in the slot that starts at a time."""
    return int(Loads((one,)).at(time, temperature)[0])


def day_mwh(one: Consumer, day: int) -> NDArray[np.int64]:
    """The load without heating and cooling in each slot of a UTC day."""
    return np.asarray(_Group([one]).span(day * DAY_S, DAY_S, 1)[:, 0])


@pytest.mark.parametrize(
    ("function", "average_w"),
    [
        (Function.HOUSE, 1200),
        (Function.APARTMENT, 600),
        (Function.HOSPITAL, 60_000),
        (Function.POLICE, 12_000),
        (Function.FIRE, 8_000),
    ],
)
def test_load_over_a_year_comes_to_the_average(function: Function, average_w: int) -> None:
    weather = Weather(TOWN)
    loads = Loads([consumer(f"m/{number}", function, average_w) for number in range(3)], 900)
    times = [day * DAY_S + hour * 3600 for day in range(DAY, DAY + 365, 5) for hour in range(24)]
    mean = np.mean([loads.at(time, weather.temperature_c(time)) for time in times], axis=0)
    assert mean == pytest.approx([average_w * 1000 / 4] * 3, rel=0.05)


def test_mean_stress_is_that_of_the_temperature_curve() -> None:
    weather = Weather(TOWN)
    times = range(DAY * DAY_S, (DAY + 1461) * DAY_S, 3600)
    assert np.mean([abs(weather.temperature_c(time) - COMFORT_C) for time in times]) == pytest.approx(
        MEAN_STRESS_C, rel=0.01
    )


def test_load_differs_between_places_days_and_seeds() -> None:
    day = day_mwh(consumer(), DAY)
    for other in (
        day_mwh(consumer("r001/house 2"), DAY),
        day_mwh(consumer("r002/house 1"), DAY),
        day_mwh(consumer(), DAY + 1),
        day_mwh(consumer(seed=2), DAY),
    ):
        assert np.mean(day == other) < 0.1


def test_load_of_many_is_that_of_each() -> None:
    many = (consumer(), consumer("r001/house 2"), consumer("p/hospital", Function.HOSPITAL, 60_000))
    loads = Loads(many)
    for time in (DAY * DAY_S, DAY * DAY_S + 3615, (DAY + 1) * DAY_S, DAY * DAY_S):
        assert loads.at(time, 30.0).tolist() == [load_mwh(one, time, 30.0) for one in many]


def test_longer_steps_have_the_energy_of_their_slots() -> None:
    many = (consumer(), consumer("r001/house 2"), consumer("p/hospital", Function.HOSPITAL, 60_000))
    by_slot, by_minute, by_quarter = (Loads(many, step_s) for step_s in (15, 60, 900))
    for quarter in range(DAY * 96, (DAY + 1) * 96, 5):
        slots = np.sum([by_slot.at(quarter * 900 + 15 * n, COMFORT_C) for n in range(60)], axis=0)
        minutes = np.sum([by_minute.at(quarter * 900 + 60 * n, COMFORT_C) for n in range(15)], axis=0)
        for longer in (minutes, by_quarter.at(quarter * 900, COMFORT_C)):
            # The noise of single slots is at most 2 %, and cancels out.
            assert np.abs(longer - slots).max() <= 0.006 * slots.max()


def test_load_grows_with_heat_and_cold() -> None:
    time = DAY * DAY_S
    mild, hot, cold = (load_mwh(consumer(), time, degrees) for degrees in (COMFORT_C, 37.8, -5.0))
    assert mild < hot
    assert mild < cold


def test_load_of_a_home_rises_in_the_local_evening_summer_and_winter() -> None:
    for month in (1, 7):
        start = int(datetime(2026, month, 5, tzinfo=ZoneInfo(TOWN.timezone)).timestamp())
        hours = np.zeros(24)
        for number in range(10):
            loads = Loads((consumer(f"r/{number}"),))
            hours += [
                sum(loads.at(start + hour * 3600 + slot * 15, 18.0)[0] for slot in range(0, 240, 6))
                for hour in range(24)
            ]
        assert hours[18:21].min() > 1.5 * hours[1:5].max()


def test_appliance_runs_cross_utc_midnight_unbroken() -> None:
    # 00:00 UTC is early evening in Boston: a run that crosses it must not break off there more often than elsewhere.
    jumps, usual = 0, 0
    for number in range(60):
        one = consumer(f"r/{number}")
        evening = np.concatenate([day_mwh(one, DAY), day_mwh(one, DAY + 1)]).astype(np.int64)
        steps = np.abs(np.diff(evening)) > 1000
        jumps += int(steps[DAY_SLOTS - 1])
        usual += int(steps[DAY_SLOTS - 101 : DAY_SLOTS + 99].sum())
    assert jumps <= max(4, 3 * usual / 200)


BOSTON = TownTable()
ZONE = ZoneInfo(BOSTON.timezone)


def local(year: int, month: int, day: int, hour: float) -> int:
    return int(datetime(year, month, day, tzinfo=ZONE).timestamp() + hour * 3600)


def zenith_by_pvlib(seconds: NDArray[Any], latitude: float, longitude: float) -> Any:
    """Return a series of the sun's angles from the zenith."""
    # Loaded here, since every worker loads this file, and one of them runs its tests.
    import pandas as pd
    from pvlib import solarposition

    times = pd.to_datetime(seconds, unit="s", utc=True)
    return solarposition.spa_python(times, latitude, longitude)["apparent_zenith"]


@pytest.mark.parametrize(
    "place", [(-66.0, 20.0), (-33.9, 151.2), (0.0, 0.0), (42.36, -71.06), (66.0, -150.0), (89.0, 3.0)]
)
def test_sun_stands_where_another_program_says_from_2020_to_2060(place: tuple[float, float]) -> None:
    seconds = np.linspace(local(2020, 1, 1, 0), local(2060, 1, 1, 0), 20_011)
    theirs = zenith_by_pvlib(seconds, *place).to_numpy()
    up = theirs < 90
    assert up.sum() > 5000
    assert np.abs(apparent_zenith(seconds, *place) - theirs)[up].max() < 0.02


def test_clear_sky_is_that_of_another_program() -> None:
    from pvlib import clearsky

    day = 20_635
    zenith = zenith_by_pvlib(day * DAY_S + 7.5 + 15 * np.arange(DAY_SLOTS), 42.36, -71.06)
    theirs = np.clip(clearsky.haurwitz(zenith)["ghi"].to_numpy() / 1000, 0, 1)
    assert np.abs(Sun(42.36, -71.06).day(day) - theirs).max() < 0.0005


@pytest.mark.parametrize("latitude", [-66.0, -33.9, 0.0, 42.36, 66.0])
def test_sun_stays_within_its_fraction_all_year(latitude: float) -> None:
    sun = Sun(latitude, 151.2)
    for day in range(20454, 20454 + 365, 30):
        fractions = sun.day(day)
        assert fractions.shape == (DAY_SLOTS,)
        assert np.all((fractions >= 0) & (fractions <= 1))
        assert sun.fraction(day * DAY_S + 15 * 100) == fractions[100]


def test_overcast_day_costs_10_to_15_percent_and_others_nothing() -> None:  # req: T7
    weather = Weather(BOSTON)
    clear = Sun(BOSTON.latitude, BOSTON.longitude)
    losses = []
    for day in range(400):
        noon = local(2026, 1, 1, 12) + day * DAY_S
        losses.append(1 - weather.clouds(noon))
        overcast = weather.overcast(datetime.fromtimestamp(noon, ZONE).date())
        least, greatest = OVERCAST_LOSS
        assert (least - 1e-9 <= losses[-1] <= greatest + 1e-9) if overcast else losses[-1] == 0
        if day % 20 == 0:
            assert weather.solar(noon) == pytest.approx(clear.fraction(noon) * (1 - losses[-1]))
    assert abs(np.mean([loss > 0 for loss in losses]) - OVERCAST_SHARE) < 0.1
    assert len(set(losses)) > 60


def test_clouds_hold_for_one_local_day() -> None:
    weather = Weather(BOSTON)
    for day in range(30):
        midnight = datetime(2026, 6, 1, tzinfo=ZONE) + timedelta(days=day)
        start = int(midnight.timestamp())
        assert len({weather.clouds(start + hour * 3600) for hour in range(24)}) == 1


def test_weather_depends_on_the_seed_alone() -> None:
    days = [date(2026, 1, 1) + timedelta(days=n) for n in range(60)]
    skies = [[Weather(TownTable(seed=seed)).overcast(day) for day in days] for seed in (1, 1, 2)]
    assert skies[0] == skies[1] != skies[2]


def test_weather_overridden_by_a_scenario_reaches_the_panels() -> None:  # req: N3
    class Storm(Weather):
        def overcast(self, day: date) -> bool:
            del day
            return True

    noon = local(2026, 6, 21, 13)
    assert 0.85 <= Storm(BOSTON).solar(noon) / Sun(BOSTON.latitude, BOSTON.longitude).fraction(noon) <= 0.90


def test_temperature_follows_season_and_hour() -> None:
    weather = Weather(BOSTON)
    assert weather.temperature_c(local(2026, 7, 20, 15)) > weather.temperature_c(local(2026, 7, 20, 4)) + 8
    assert 25 < weather.temperature_c(local(2026, 7, 20, 15)) < 32
    assert -10 < weather.temperature_c(local(2026, 1, 20, 4)) < 0


def test_temperature_in_the_south_is_warm_in_january() -> None:
    sydney = Weather(TownTable(latitude=-33.9, longitude=151.2, timezone="Australia/Sydney"))
    january, july = (int(datetime(2026, month, 20, 3, tzinfo=UTC).timestamp()) for month in (1, 7))
    assert sydney.temperature_c(january) > sydney.temperature_c(july) + 20


def test_seed_of_tells_parts_apart_and_never_changes() -> None:
    assert seed_of("a", "bc") != seed_of("ab", "c")
    assert seed_of(1, "overcast", date(2026, 1, 1)) == 16117108523051327877
    assert 0 <= chance("anything") < 1


NIGHT = 1_782_016_200  # 0:30 in Boston
DEAD = Circumstances(voltage=False)


@pytest.fixture(scope="module")
def town() -> Town:
    grid = {"id": "r", "kind": "residential", "houses": 2}
    return town_of(TownFile.model_validate({"microgrid": [grid]}), Path("town.toml"))


@pytest.fixture(scope="module")
def places(town: Town) -> Places:
    (block,) = blocks_of(town, town.microgrids.values(), 15)
    return block


def cold_slots(places: Places, slots_without: int) -> int:
    """Return for how many slots a place takes more after so many without energy."""
    ordinary, cold_s = np.full(places.shape, 1000), np.zeros(places.shape, dtype=np.int64)
    for _ in range(slots_without):
        assert (cold_load(places, ordinary, cold_s) == 1000).all()
        cold_s = cold_after(places, ordinary, np.full(places.shape, 499), cold_s)
    taken = []
    for _ in range(500):
        taken.append(int(cold_load(places, ordinary, cold_s)[0, 0]))
        cold_s = cold_after(places, ordinary, np.full(places.shape, 500), cold_s)
    after = taken.count(3000)
    assert taken == [1000, *[3000] * after, *[1000] * (499 - after)], "from the slot after its return, without a gap"
    return after


@pytest.mark.parametrize(("minutes", "cold"), [(0, 0), (5, 5), (30, 30), (600, 30)])
def test_a_place_is_cold_for_as_long_as_it_had_no_energy_but_at_most_half_an_hour(
    places: Places, minutes: int, cold: int
) -> None:
    assert cold_slots(places, minutes * 4) == cold * 4


def test_cold_load_is_at_most_what_the_service_carries(places: Places) -> None:
    cold_s = np.full(places.shape, 60)
    assert (cold_load(places, places.service // 2, cold_s) == places.service).all()
    assert (cold_load(places, places.service + 1, cold_s) == places.service + 1).all(), "the ordinary load is as it was"


def test_a_place_that_loses_its_energy_while_it_is_cold_is_cold_again_after_it(places: Places) -> None:
    ordinary, nothing = np.full(places.shape, 1000), np.zeros(places.shape, dtype=np.int64)
    again = cold_after(places, ordinary, nothing, np.full(places.shape, 600))
    assert (again == -615).all()
    assert (cold_after(places, ordinary, ordinary, again) == 615).all()


def test_emulated_houses_take_three_times_as_much_after_an_outage_also_over_a_restart(town: Town) -> None:
    empty = {meter.id: 0 for meter in town.microgrids["r"].meters if meter.battery}
    physics = MeteredTown(town, town.microgrids.values())
    world, usual = (FleetWorld(physics, NIGHT, {"r": empty}, {}) for _ in range(2))
    percent: list[int] = []
    logged = ""
    for slot in range(400):
        if slot == 200:
            world = FleetWorld(physics, world.slot_end, world.levels, {"r": json.loads(logged)["cold"]})
        step = world.step({"r": DEAD if slot < 160 else Circumstances()}).steps["r"]
        logged = json.dumps(step.energy())
        ordinary = sum(usual.step({"r": Circumstances()}).steps["r"].served.values())
        percent.append(round(100 * sum(step.served.values()) / ordinary))
    assert percent == [0] * 160 + [100] + [300] * 120 + [100] * 119
    assert world.cold == {"r": {}}
