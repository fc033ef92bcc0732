from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from numpy.typing import NDArray

from commonwatt.town.file import TownTable
from commonwatt.town.town import Function
from meter_sim.load import COMFORT_C, MEAN_STRESS_C, Consumer, Loads, _Group
from meter_sim.sun import DAY_S, DAY_SLOTS
from meter_sim.weather import Weather

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
