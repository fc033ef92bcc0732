from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from numpy.typing import NDArray

from commonwatt.town.file import TownTable
from meter_sim.sun import DAY_S, DAY_SLOTS, Sun, apparent_zenith
from meter_sim.weather import OVERCAST_LOSS, OVERCAST_SHARE, Weather, chance, seed_of

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
