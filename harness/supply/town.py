"""A seeded synthetic town: its net load at the plant for each quarter-hour of a year.

64 houses stand for 8,000, one building for three, one place for the public services. A house uses its sun first, then
its battery, then the town; its surplus charges its battery, then goes to the town. Loads have a season, a morning and
an evening, weekends, and noise. Sharing inside microgrids is left out: it moves energy between neighbours only.
"""

from dataclasses import dataclass
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.time.local_time import DAY_QUARTERS, to_local
from commonwatt.model.units import QUARTER_S, SLOTS, EpochSeconds
from commonwatt.town.file import TownTable
from meter_sim.sun import DAY_S, Sun
from meter_sim.weather import Weather

Floats = NDArray[np.float64]

TABLE = TownTable()
ZONE = ZoneInfo(TABLE.timezone)

BEGIN: EpochSeconds = 1_762_992_000  # 13 November 2025, 00:00 UTC; the scored year begins 49 days later
WARM_UP_DAYS = 49  # days before the scored year: history for forecasts

_HOUSES = 64
_SUN_HOURS = 8
_POWER_HOURS = 2

HOUSES_W = 8_000 * TABLE.house_average_w
APARTMENTS_W = 300 * TABLE.apartment_average_w
PUBLIC_W = TABLE.hospital_average_w + TABLE.police_average_w + TABLE.fire_average_w
MEAN_W = HOUSES_W + APARTMENTS_W + PUBLIC_W  # the mean load of the town, watts


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of year."""

    # Whether clouds take up to 85 % of the sun and stay for days; else they take 10 to 15 % on a third of the days
    # (T7).
    cloudy: bool = False
    shift_day: int | None = None  # the scored day from which demand is another (N4); ``None``: never


@dataclass(frozen=True)
class _Places:
    """Places side by side: mean load, panels at full sun, battery, all in watts or watt-hours; offset in quarters."""

    load: Floats
    panels: Floats
    battery: Floats
    offset: NDArray[np.int64]
    service: NDArray[np.bool_]


def net_load(seed: int, days: int, kind: Kind) -> NDArray[np.int64]:
    """Return the net load of each quarter-hour from ``BEGIN``: warm-up and ``days`` more, milliwatt-hours."""
    random = np.random.default_rng(seed)
    count = (WARM_UP_DAYS + days) * DAY_QUARTERS
    quarters = BEGIN // QUARTER_S + np.arange(count, dtype=np.int64)
    places = _places(random)
    loads = _loads(random, quarters, places, kind)
    sun = _sunshine(len(quarters) // DAY_QUARTERS) * _clouds(random, count, cloudy=kind.cloudy)
    return _through_batteries(random, places, loads, sun)


def _places(random: np.random.Generator) -> _Places:
    spread = np.exp(random.normal(0, 0.25, _HOUSES))
    load = np.concatenate([HOUSES_W * spread / spread.sum(), [APARTMENTS_W], [PUBLIC_W]])
    panels = load * 24 / _SUN_HOURS
    panels[:_HOUSES] *= random.uniform(0.85, 1.15, _HOUSES)
    offset = np.concatenate([random.integers(-5, 6, _HOUSES), [0, 0]])
    service = np.zeros(len(load), np.bool_)
    service[-1] = True
    return _Places(load, panels, load * 24, offset, service)


def _loads(random: np.random.Generator, quarters: NDArray[np.int64], places: _Places, kind: Kind) -> Floats:
    """Return the load of each place in each quarter, watts."""
    local = to_local(quarters, ZONE)
    weekend = (local // DAY_QUARTERS + 3) % 7 >= 5
    stress = _stress(random, quarters)
    moved = np.zeros(len(quarters), np.int64)
    if kind.shift_day is not None:
        moved[(WARM_UP_DAYS + kind.shift_day) * DAY_QUARTERS :] = 3 * 4
    loads = np.empty((len(quarters), len(places.load)))
    for place, mean in enumerate(places.load):
        at = (local + places.offset[place] + moved) % DAY_QUARTERS
        if places.service[place]:
            shape = _SERVICE[at] * np.where(weekend, 0.85, 1.06)
        else:
            shape = np.where(weekend, _WEEKEND[at], _WEEKDAY[at])
        loads[:, place] = mean * (0.82 * shape + 0.18 * stress)
    days = len(quarters) // DAY_QUARTERS
    town = np.repeat(1 + _walk(random, days, 0.6, 0.03), DAY_QUARTERS)
    noise = 1 + _walk(random, len(quarters), 0.9, 0.025)
    if kind.shift_day is not None:
        town[(WARM_UP_DAYS + kind.shift_day) * DAY_QUARTERS :] *= 1.15
    return np.asarray(loads * (town * noise)[:, None])


def _shape(bumps: tuple[tuple[float, float, float], ...]) -> Floats:
    hours = np.arange(DAY_QUARTERS) / 4
    course = np.ones(DAY_QUARTERS)
    for height, hour, width in bumps:
        course += height * np.exp(-(((hours - hour) / width) ** 2))
    return np.asarray(course / course.mean())


_WEEKDAY = _shape(((1.0, 7.3, 1.3), (1.8, 19.5, 2.6)))
_WEEKEND = _shape(((0.9, 10.0, 2.5), (0.5, 14.0, 3.0), (1.5, 19.5, 2.8))) * 1.06
_SERVICE = _shape(((0.6, 12.5, 4.5),))


def _stress(random: np.random.Generator, quarters: NDArray[np.int64]) -> Floats:
    """Return heating and cooling as a multiple of its mean over a year."""
    weather, days = Weather(TABLE), len(quarters) // DAY_QUARTERS
    ordinary = np.array([weather.temperature_c(int(quarter) * QUARTER_S) for quarter in quarters[::4]])
    unusual = np.repeat(_walk(random, days, 0.75, 4.5), DAY_QUARTERS)
    stress = np.abs(np.repeat(ordinary, 4) + unusual - 18.0)
    return np.asarray(stress / 10.5)


def _walk(random: np.random.Generator, count: int, memory: float, deviation: float) -> Floats:
    """Return noise that remembers its last value, with a standard deviation."""
    steps = random.normal(0, deviation * np.sqrt(1 - memory**2), count)
    values = np.empty(count)
    value = 0.0
    for place, each in enumerate(steps.tolist()):
        value = memory * value + each
        values[place] = value
    return values


@lru_cache(maxsize=2)
def _sunshine(days: int) -> Floats:
    """Return the clear-sky fraction of full sun in each quarter from ``BEGIN``."""
    sun = Sun(TABLE.latitude, TABLE.longitude)
    first = BEGIN // DAY_S
    return np.concatenate([sun.day(first + day).reshape(DAY_QUARTERS, SLOTS).mean(axis=1) for day in range(days)])


def _clouds(random: np.random.Generator, count: int, *, cloudy: bool) -> Floats:
    """Return the share of the sun that clouds let through in each quarter."""
    days = count // DAY_QUARTERS
    if not cloudy:
        overcast = random.random(days) < 0.35
        return np.repeat(np.where(overcast, 1 - random.uniform(0.10, 0.15, days), 1.0), DAY_QUARTERS)
    daily = np.clip(0.68 + _walk(random, days, 0.5, 0.32), 0.15, 1.0)
    within = np.clip(1 + _walk(random, count, 0.95, 0.15), 0.4, 1.3)
    return np.clip(np.repeat(daily, DAY_QUARTERS) * within, 0.1, 1.0)


def _through_batteries(random: np.random.Generator, places: _Places, loads: Floats, sun: Floats) -> NDArray[np.int64]:
    """Return the town's net load after every place's own sun and battery, milliwatt-hours a quarter."""
    level = places.battery * random.uniform(0.1, 0.5, len(places.load))
    power = places.battery / _POWER_HOURS / 4
    needs = loads / 4 - sun[:, None] * (places.panels / 4)
    net = np.empty(len(loads))
    for place, need in enumerate(needs):
        flow = np.clip(need, np.maximum(level - places.battery, -power), np.minimum(level, power))
        level -= flow
        net[place] = (need - flow).sum()
    return np.rint(net * 1000).astype(np.int64)
