"""Rules of buying: ``spec`` (the town's specification), ``aces`` and ``rangers`` (the design reports)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.time.local_time import DAY_QUARTERS, local_hour
from commonwatt.model.units import QUARTER_S, MilliwattHours
from utility.supply.buying.situation import Purchase, Situation, within_limits

Peak = Callable[[Situation], NDArray[np.bool_]]  # which of the next quarter-hours, at most a day, are in peak hours


def by_clock(situation: Situation) -> NDArray[np.bool_]:
    """Peak hours by the clock, the same every day: those of the town file, local time (T5)."""
    quarters = situation.now // QUARTER_S + np.arange(DAY_QUARTERS, dtype=np.int64)
    hours = local_hour(quarters, situation.zone)
    return np.isin(hours, situation.peak_hours)


def by_price(situation: Situation) -> NDArray[np.bool_]:
    """Peak hours by the prices: those above the middle between the cheapest and the dearest of the day."""
    prices = situation.prices[:DAY_QUARTERS]
    return np.asarray(2 * prices > int(prices.min()) + int(prices.max()))


@dataclass(frozen=True, kw_only=True)
class SpecRule:
    """``spec``: off-peak, refill to a target with room for residents' exports; in peak, only to the reserve (U4)."""

    minimum_permille: int = 500  # the town's minimum, thousandths of the capacity: the least target
    peak: Peak = by_clock  # the reading of peak hours

    def __call__(self, situation: Situation) -> Purchase:
        """Return the purchase for the next quarter-hour."""
        plant = situation.plant
        if self.peak(situation)[0]:
            return _hold(situation, plant.reserve, "peak hours")
        target = max(self._target(situation), plant.reserve)
        if plant.level >= target:
            return within_limits(situation, 0, "off-peak, above the target: residents' power first")
        return _charge(situation, target, "off-peak: refill to the target, with room for residents' exports")

    def _target(self, situation: Situation) -> MilliwattHours:
        """Return the capacity without what residents exported in the last day, at least the minimum."""
        exported = -int(np.minimum(situation.history[-DAY_QUARTERS:], 0).sum())
        plant = situation.plant
        return max(plant.capacity * self.minimum_permille // 1000, plant.capacity - plant.stored(exported))


@dataclass(frozen=True, kw_only=True)
class AcesRule:
    """``aces``: the battery is full when peak hours start; in peak, buy only at the reserve (A8)."""

    peak: Peak = by_clock  # the reading of peak hours

    def __call__(self, situation: Situation) -> Purchase:
        """Return the purchase for the next quarter-hour."""
        plant, peak = situation.plant, self.peak(situation)
        if peak[0]:
            return _hold(situation, plant.reserve, "peak hours, until the battery is critically low")
        left = int(np.argmax(peak)) if peak.any() else len(peak)
        # Evenly over the time that is left: residents' exports until then find room.
        evenly = plant.level - (plant.level - plant.capacity) // left
        return _charge(situation, min(evenly, plant.capacity), "off-peak: full when peak hours start")


@dataclass(frozen=True, kw_only=True)
class RangersRule:
    """``rangers``: off-peak, buy up to 75 %; in peak, serve from the battery only above 25 % (P5)."""

    upper_permille: int = 750  # the level up to which it buys, thousandths of the capacity
    lower_permille: int = 250  # the level above which the battery serves in peak hours
    peak: Peak = by_clock  # the reading of peak hours

    def __call__(self, situation: Situation) -> Purchase:
        """Return the purchase for the next quarter-hour."""
        plant = situation.plant
        if self.peak(situation)[0]:
            lower = max(plant.reserve, plant.capacity * self.lower_permille // 1000)
            return _hold(situation, lower, "peak hours")
        upper = max(plant.reserve, plant.capacity * self.upper_permille // 1000)
        if plant.level > upper:
            return within_limits(situation, 0, "off-peak, above the upper level: from the battery")
        return _charge(situation, upper, "off-peak: up to the upper level")


def _hold(situation: Situation, lower: MilliwattHours, when: str) -> Purchase:
    """Serve from the battery above a level; at the level buy the load, below it the load and what is missing."""
    above = situation.plant.level - lower
    if above <= 0:
        return _charge(situation, lower, f"{when}, at or below the lower level")
    from_battery = min(above, situation.plant.power_quarter, max(0, situation.expected))
    return within_limits(
        situation, situation.expected - from_battery, f"{when}: from the battery above the lower level"
    )


def _charge(situation: Situation, target: MilliwattHours, reason: str) -> Purchase:
    """Buy the expected load, and what raises the level to ``target``, as fast as the battery takes it."""
    intake = min(situation.plant.power_quarter, situation.plant.intake_to(target))
    return within_limits(situation, situation.expected + intake, reason)
