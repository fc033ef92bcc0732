"""Worlds in which policies of buying are compared."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.time.local_time import DAY_QUARTERS, local_hour
from commonwatt.model.units import QUARTER_S
from harness.supply.town import BEGIN, MEAN_W, TABLE, WARM_UP_DAYS, ZONE, Kind, net_load
from harness.supply.year import World
from utility.supply.buying.situation import MAX_HORIZON, Storm

OFF_PEAK = 1000  # the price outside peak hours; all others are multiples of it
CREDIT_PERCENT = 80  # the price of residents' exports, percent of the cheapest price
# Hours by which demand and peak hours move in the world of N4: demand comes earlier, and so do the peak hours.
SHIFT_HOURS = -3

STORM_EVERY_DAYS, STORM_HOURS = 20, 12


def two_prices(seed: int, days: int, *, cloudy: bool = False) -> World:
    """The prices of T5: half as much again from 15:00 to 21:00."""
    net = net_load(seed, days, Kind(cloudy=cloudy))
    return _world(net, _peak_prices(len(net)))


def cloudy(seed: int, days: int) -> World:
    """The same prices, under clouds that take up to 85 % of the sun and stay for days."""
    return two_prices(seed, days, cloudy=True)


def hourly_prices(seed: int, days: int) -> World:
    """A price for each hour, around a level for each day, both random; known two days ahead."""
    net = net_load(seed, days, Kind(cloudy=True))
    count = len(net) + MAX_HORIZON
    random = np.random.default_rng((seed, 1))
    level = np.repeat(np.exp(random.normal(0, 0.25, count // DAY_QUARTERS + 1)), DAY_QUARTERS)[:count]
    hours = np.repeat(np.exp(random.normal(0, 0.25, count // 4 + 1)), 4)[:count]
    return _world(net, np.rint(_peak_prices(len(net)) * level * hours).astype(np.int64))


def changed(seed: int, days: int) -> World:
    """N4: from the middle on, 15 % more demand, three hours earlier, and peak hours three hours earlier."""
    shift_day = days // 2
    net = net_load(seed, days, Kind(cloudy=True, shift_day=shift_day))
    before, after = _peak_prices(len(net)), _peak_prices(len(net), SHIFT_HOURS)
    first = (WARM_UP_DAYS + shift_day) * DAY_QUARTERS
    return _world(net, np.where(np.arange(len(before)) < first, before, after))


def storms(seed: int, days: int) -> World:
    """A storm each 20 days, announced 36 h before, from 19:00 or 20:00 local time; the line is dead for 12 h."""
    net = net_load(seed, days, Kind(cloudy=True))
    world = _world(net, _peak_prices(len(net)))
    each = []
    for day in range(10, days, STORM_EVERY_DAYS):
        start = (WARM_UP_DAYS + day) * DAY_QUARTERS
        world.line[start : start + STORM_HOURS * 4] = 0
        begin = BEGIN + start * QUARTER_S
        each.append(Storm(start=begin, end=begin + STORM_HOURS * 3600))
    return World(net=net, prices=world.prices, credit=world.credit, line=world.line, storms=tuple(each))


def _world(net: NDArray[np.int64], prices: NDArray[np.int64]) -> World:
    line = np.full(len(net), 2 * MEAN_W, np.int64)
    return World(net=net, prices=prices, credit=int(prices.min()) * CREDIT_PERCENT // 100, line=line)


def _peak_prices(count: int, shift_hours: int = 0) -> NDArray[np.int64]:
    """Return the prices of T5 for some quarters from ``BEGIN`` and the horizon after them."""
    hours = local_hour(BEGIN // QUARTER_S + np.arange(count + MAX_HORIZON, dtype=np.int64), ZONE) - shift_hours
    peak = (TABLE.peak_start_hour <= hours) & (hours < TABLE.peak_end_hour)
    return np.where(peak, round(OFF_PEAK * TABLE.peak_factor), OFF_PEAK).astype(np.int64)


WORLDS: Mapping[str, Callable[[int, int], World]] = MappingProxyType(
    {
        "two prices": two_prices,
        "two prices, cloudy": cloudy,
        "a price each hour": hourly_prices,
        "N4, a change for good": changed,
        "storms": storms,
    }
)
"""From a name to the function that makes a world of a seed and a number of days."""
