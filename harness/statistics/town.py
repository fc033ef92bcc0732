"""A synthetic town over several years, hour by hour: accounts, microgrids and classes with their months.

The loads are those of the supply's synthetic town (season, morning and evening, weekends, weather that stays for days),
with what makes years differ: each home grows or shrinks, some get an electric car, some change hands, some go on
holiday, the town's weather has warm and cold months, and everybody's use drifts. Sun, batteries and sharing within a
microgrid are simulated by the hour. It is not the emulator: that has the same weather and habits each year, so that
its months would be too easy to project.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.time.local_time import to_local
from commonwatt.model.units import QUARTER_S
from harness.supply.town import _SERVICE, _WEEKDAY, _WEEKEND, TABLE, ZONE, _walk
from meter_sim.sun import DAY_S, Sun
from meter_sim.weather import Weather
from utility.statistics.months import Month, month_number

Floats = NDArray[np.float64]

BEGIN = int(datetime(2019, 1, 1, 5, tzinfo=UTC).timestamp())  # midnight of the first day in New York

HOURS_A_DAY = 24
HOUSES_A_MICROGRID = 10

ACCOUNT, MICROGRID, CLASS, TOWN = range(4)
"""Scopes; a subject's group is three times its scope and its class, a house 0, an apartment 1, a public service 2."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Years:
    """The months of a town."""

    first: Month  # the first month
    scopes: NDArray[np.int64]  # of each subject
    groups: NDArray[np.int64]  # of each subject
    energies: dict[str, Floats]  # milliwatt-hours by ``imported``, ``exported`` and ``used``, (subjects, months)


def years_of(seed: int, years: int, houses: int = 200, apartments: int = 30) -> Years:
    """Return a town's months."""
    random = np.random.default_rng(seed)
    days = (datetime(2019 + years, 1, 1, tzinfo=UTC) - datetime(2019, 1, 1, tzinfo=UTC)).days
    hours = days * HOURS_A_DAY
    quarters = BEGIN // QUARTER_S + 4 * np.arange(hours, dtype=np.int64)
    local = to_local(quarters, ZONE)
    classes = np.repeat([0, 1, 2], [houses, apartments, 3])
    mean = np.concatenate([
        TABLE.house_average_w * np.exp(random.normal(0, 0.3, houses)),
        TABLE.apartment_average_w * np.exp(random.normal(0, 0.3, apartments)),
        [TABLE.hospital_average_w, TABLE.police_average_w, TABLE.fire_average_w],
    ])  # fmt: skip
    load = _loads(random, local, days, classes, mean)
    sun = np.repeat(_daily_clouds(random, days), HOURS_A_DAY) * _sunshine(days)
    sent, taken = _through_batteries(random, load, sun, mean * (classes == 0))
    microgrids = np.concatenate(
        [np.arange(houses) // HOUSES_A_MICROGRID, np.full(apartments, 10_000), np.full(3, 10_001)]
    )
    names, microgrid_of = np.unique(microgrids, return_inverse=True)
    shared_out, shared_in = _shared(sent, taken, microgrid_of, len(names))
    months = np.array([datetime.fromtimestamp(int(q) * QUARTER_S, ZONE).year * 12
                       + datetime.fromtimestamp(int(q) * QUARTER_S, ZONE).month - 1
                       for q in quarters[::HOURS_A_DAY]])  # fmt: skip
    by_month = np.repeat(months, HOURS_A_DAY)
    begins = np.flatnonzero(np.diff(by_month, prepend=-1))
    accounts = {
        name: np.add.reduceat(values, begins, axis=0).T * 1000
        for name, values in (("imported", taken - shared_in), ("exported", sent - shared_out), ("used", load))
    }
    class_of_microgrid = np.minimum(np.maximum(names - 9_999, 0), 2)
    energies = {
        name: np.concatenate([
            each,
            np.stack([each[microgrid_of == n].sum(axis=0) for n in range(len(names))]),
            np.stack([each[classes == n].sum(axis=0) for n in range(3)]),
            each.sum(axis=0)[None],
        ])
        for name, each in accounts.items()
    }  # fmt: skip
    scopes = np.repeat([ACCOUNT, MICROGRID, CLASS, TOWN], [len(mean), len(names), 3, 1])
    of = np.concatenate([classes, class_of_microgrid, [0, 1, 2], [0]])
    return Years(first=month_number("2019-01"), scopes=scopes, groups=scopes * 3 + of, energies=energies)


def _loads(
    random: np.random.Generator, local: NDArray[np.int64], days: int, classes: NDArray[np.int64], mean: Floats
) -> Floats:
    """Return the load of each place in each hour, watts."""
    hours, places = len(local), len(mean)
    weekend = (local // 96 + 3) % 7 >= 5
    weather = Weather(TABLE)
    ordinary = np.array([weather.temperature_c(BEGIN + 3600 * hour) for hour in range(0, hours, 3)]).repeat(3)[:hours]
    unusual = np.repeat(_walk(random, days, 0.75, 4.0) + _walk(random, days, 0.985, 1.5), HOURS_A_DAY)
    stress = np.abs(ordinary + unusual - 18.0) / 10.5
    town = np.repeat(1 + _walk(random, days, 0.6, 0.03), HOURS_A_DAY)
    years = np.arange(hours) / (365 * HOURS_A_DAY)
    town *= 1.012**years * np.exp(np.repeat(_walk(random, days, 0.999, 0.03), HOURS_A_DAY))
    found = np.empty((hours, places))
    for place in range(places):
        at = (local + int(random.integers(-5, 6))) % 96
        shape = _SERVICE[at] if classes[place] == 2 else np.where(weekend, _WEEKEND[at], _WEEKDAY[at])
        found[:, place] = mean[place] * (0.7 * shape + 0.3 * random.uniform(0.5, 1.5) * stress) * town
        if classes[place] != 2:
            found[:, place] *= _life(random, hours, years, is_house=classes[place] == 0)
    return found


def _life(random: np.random.Generator, hours: int, years: Floats, *, is_house: bool) -> Floats:
    """Return what a household's life makes of its load: growth, a car, movers, holidays, moods."""
    factor = np.exp(random.normal(0.0, 0.03) * years)
    last = years[-1]
    for _ in range(random.poisson(0.08 * last)):
        factor[years >= random.uniform(0, last)] *= np.exp(random.normal(0, 0.3))
    if is_house and random.random() < 0.04 * last:
        factor[years >= random.uniform(0, last)] *= 1.3
    for _ in range(random.poisson(1.5 * last)):
        begin = int(random.integers(0, hours))
        factor[begin : begin + HOURS_A_DAY * int(random.integers(4, 18))] *= 0.35
    days = hours // HOURS_A_DAY
    return np.asarray(factor * np.exp(np.repeat(_walk(random, days, 0.97, 0.08), HOURS_A_DAY)))


def _daily_clouds(random: np.random.Generator, days: int) -> Floats:
    """Return the part of the sun that the clouds of each day leave, with bright and dull months."""
    daily = 0.68 + _walk(random, days, 0.5, 0.32) + _walk(random, days, 0.985, 0.04)
    return np.clip(daily, 0.15, 1.0)


def _sunshine(days: int) -> Floats:
    sun = Sun(TABLE.latitude, TABLE.longitude)
    first = BEGIN // DAY_S
    whole = np.concatenate([sun.day(first + day).reshape(HOURS_A_DAY, -1).mean(axis=1) for day in range(days + 1)])
    return whole[5 : 5 + days * HOURS_A_DAY]


def _through_batteries(
    random: np.random.Generator, load: Floats, sun: Floats, with_panels: Floats
) -> tuple[Floats, Floats]:
    """Return what each place sent and took in each hour, watt-hours, after its own sun and battery."""
    panels = with_panels * 3 * random.uniform(0.85, 1.15, len(with_panels))
    capacity = with_panels * 24
    power = capacity / 4
    level = capacity * 0.5
    sent, taken = np.zeros_like(load), np.zeros_like(load)
    for hour in range(len(load)):
        need = load[hour] - sun[hour] * panels
        flow = np.clip(need, np.maximum(level - capacity, -power), np.minimum(level, power))
        level -= flow
        rest = need - flow
        sent[hour], taken[hour] = np.maximum(-rest, 0), np.maximum(rest, 0)
    return sent, taken


def _shared(sent: Floats, taken: Floats, microgrid_of: NDArray[np.intp], count: int) -> tuple[Floats, Floats]:
    """Return what of it stayed in the microgrid, pro rata."""
    shared_out, shared_in = np.zeros_like(sent), np.zeros_like(taken)
    for number in range(count):
        ours = np.flatnonzero(microgrid_of == number)
        out, into = sent[:, ours].sum(axis=1), taken[:, ours].sum(axis=1)
        less = np.minimum(out, into)
        shared_out[:, ours] = sent[:, ours] * (less / np.maximum(out, 1e-9))[:, None]
        shared_in[:, ours] = taken[:, ours] * (less / np.maximum(into, 1e-9))[:, None]
    return shared_out, shared_in
