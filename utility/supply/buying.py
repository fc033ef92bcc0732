"""Buying: the town's plant, what a policy is given and returns, and the rules ``spec``, ``aces``, ``rangers``."""

from collections.abc import Callable
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.calendar import DAY_QUARTERS, local_hour
from commonwatt.model.units import QUARTER_S, EpochSeconds, MilliwattHours

_PER_HOUR = 3600 // QUARTER_S


@dataclass(frozen=True, kw_only=True)
class PlantSituation:
    """The state and the limits of the plant."""

    # The energy in its battery, milliwatt-hours; a measured level may lie outside 0 to ``capacity``.
    level: MilliwattHours
    capacity: MilliwattHours  # the battery's capacity, milliwatt-hours
    floor: MilliwattHours  # the level below which the battery is never discharged, milliwatt-hours
    # The level kept for outages and the public microgrid, milliwatt-hours; what lies above it is traded.
    reserve: MilliwattHours
    power_w: int  # the most power with which the battery is charged or discharged, watts
    loss_permille: int  # the part of charged energy that is lost, thousandths; discharging loses nothing
    line_w: int  # the limit of the line in the present supply state, watts

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0 <= self.floor <= self.reserve <= self.capacity:
            raise ValueError(f"not 0 <= floor <= reserve <= capacity: {self.floor}, {self.reserve}, {self.capacity}")
        if not 0 <= self.loss_permille < 1000 or self.power_w < 0 or self.line_w < 0:
            raise ValueError(f"loss {self.loss_permille}, power {self.power_w} or line {self.line_w} out of range")

    @property
    def line_quarter(self) -> MilliwattHours:
        """The most energy that the line delivers in a quarter-hour."""
        return self.line_w * 1000 // _PER_HOUR

    @property
    def power_quarter(self) -> MilliwattHours:
        """The most energy that goes into or out of the battery in a quarter-hour."""
        return self.power_w * 1000 // _PER_HOUR

    def intake_to(self, target: MilliwattHours) -> MilliwattHours:
        """Return the energy to charge, loss included, that raises the level to ``target``; 0 above it."""
        kept = 1000 - self.loss_permille
        return -(-max(0, target - self.level) * 1000 // kept)

    def stored(self, intake: MilliwattHours) -> MilliwattHours:
        """Return what ``intake`` of charged energy adds to the level."""
        return intake - (intake * self.loss_permille + 999) // 1000


MAX_HORIZON = 192  # quarters of prices that are used: two days


@dataclass(frozen=True, kw_only=True)
class Storm:
    """An announced storm, in which the line may fail."""

    start: EpochSeconds  # when it is expected; the battery should be full then
    end: EpochSeconds  # when it is expected to end


@dataclass(frozen=True, kw_only=True, eq=False)
class BuyFacts:
    """The facts for one decision."""

    now: EpochSeconds  # the start of the quarter-hour to buy for
    plant: PlantSituation  # the plant
    # Price of regional energy for each quarter-hour from ``now`` on, in one unit of money per milliwatt-hour of the
    # caller's choice, scaled to integers; at least one.
    prices: NDArray[np.int64]
    credit: int  # price paid for residents' exports, in the same unit
    # The town's net load at the plant for each quarter-hour before ``now``, milliwatt-hours, oldest first; negative
    # while residents export more than the others import.
    history: NDArray[np.int64]
    zone: ZoneInfo  # time zone of the town's habits
    peak_hours: tuple[int, ...]  # the local hours of the peak price by the town file, 0 to 23; empty: none
    storm: Storm | None = None  # an announced storm; ``None``: none

    def __post_init__(self) -> None:
        """Check what policies rely on."""
        if self.now % QUARTER_S:
            raise ValueError(f"{self.now} is not the start of a quarter-hour")
        if not len(self.prices):
            raise ValueError("no prices")

    @property
    def expected(self) -> MilliwattHours:
        """The expected net load of the next quarter-hour: that of the last one; 0 without history."""
        return int(self.history[-1]) if len(self.history) else 0


@dataclass(frozen=True, kw_only=True)
class Purchase:
    """What to buy in the next quarter-hour."""

    # The energy to buy from the regional grid, milliwatt-hours. The battery takes or gives the difference to the net
    # load. The plant buys less if the battery can't take it, and more, up to the line's limit, before it goes below its
    # reserve.
    energy: MilliwattHours
    reason: str  # why, in words


Policy = Callable[[BuyFacts], Purchase]  # a policy of buying


def within_limits(situation: BuyFacts, energy: int, reason: str) -> Purchase:
    """Return a purchase cut to what line and battery can take at the expected net load, the cut in its reason."""
    plant = situation.plant
    intake = min(plant.power_quarter, plant.intake_to(plant.capacity))
    most = min(plant.line_quarter, max(0, situation.expected + intake))
    if energy > most:
        limit = "the line's limit" if most == plant.line_quarter else "what the battery can take"
        return Purchase(energy=most, reason=f"{reason}; cut to {limit}")
    return Purchase(energy=max(0, energy), reason=reason)


Peak = Callable[[BuyFacts], NDArray[np.bool_]]  # which of the next quarter-hours, at most a day, are in peak hours


def by_clock(situation: BuyFacts) -> NDArray[np.bool_]:
    """Peak hours by the clock, the same every day: those of the town file, local time (T5)."""
    quarters = situation.now // QUARTER_S + np.arange(DAY_QUARTERS, dtype=np.int64)
    hours = local_hour(quarters, situation.zone)
    return np.isin(hours, situation.peak_hours)


def by_price(situation: BuyFacts) -> NDArray[np.bool_]:
    """Peak hours by the prices: those above the middle between the cheapest and the dearest of the day."""
    prices = situation.prices[:DAY_QUARTERS]
    return np.asarray(2 * prices > int(prices.min()) + int(prices.max()))


@dataclass(frozen=True, kw_only=True)
class SpecRule:
    """``spec``: off-peak, refill to a target with room for residents' exports; in peak, only to the reserve (U4)."""

    minimum_permille: int = 500  # the town's minimum, thousandths of the capacity: the least target
    peak: Peak = by_clock  # the reading of peak hours

    def __call__(self, situation: BuyFacts) -> Purchase:
        """Return the purchase for the next quarter-hour."""
        plant = situation.plant
        if self.peak(situation)[0]:
            return _hold(situation, plant.reserve, "peak hours")
        target = max(self._target(situation), plant.reserve)
        if plant.level >= target:
            return within_limits(situation, 0, "off-peak, above the target: residents' power first")
        return _charge(situation, target, "off-peak: refill to the target, with room for residents' exports")

    def _target(self, situation: BuyFacts) -> MilliwattHours:
        """Return the capacity without what residents exported in the last day, at least the minimum."""
        exported = -int(np.minimum(situation.history[-DAY_QUARTERS:], 0).sum())
        plant = situation.plant
        return max(plant.capacity * self.minimum_permille // 1000, plant.capacity - plant.stored(exported))


@dataclass(frozen=True, kw_only=True)
class AcesRule:
    """``aces``: the battery is full when peak hours start; in peak, buy only at the reserve (A8)."""

    peak: Peak = by_clock  # the reading of peak hours

    def __call__(self, situation: BuyFacts) -> Purchase:
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

    def __call__(self, situation: BuyFacts) -> Purchase:
        """Return the purchase for the next quarter-hour."""
        plant = situation.plant
        if self.peak(situation)[0]:
            lower = max(plant.reserve, plant.capacity * self.lower_permille // 1000)
            return _hold(situation, lower, "peak hours")
        upper = max(plant.reserve, plant.capacity * self.upper_permille // 1000)
        if plant.level > upper:
            return within_limits(situation, 0, "off-peak, above the upper level: from the battery")
        return _charge(situation, upper, "off-peak: up to the upper level")


def _hold(situation: BuyFacts, lower: MilliwattHours, when: str) -> Purchase:
    """Serve from the battery above a level; at the level buy the load, below it the load and what is missing."""
    above = situation.plant.level - lower
    if above <= 0:
        return _charge(situation, lower, f"{when}, at or below the lower level")
    from_battery = min(above, situation.plant.power_quarter, max(0, situation.expected))
    return within_limits(
        situation, situation.expected - from_battery, f"{when}: from the battery above the lower level"
    )


def _charge(situation: BuyFacts, target: MilliwattHours, reason: str) -> Purchase:
    """Buy the expected load, and what raises the level to ``target``, as fast as the battery takes it."""
    intake = min(situation.plant.power_quarter, situation.plant.intake_to(target))
    return within_limits(situation, situation.expected + intake, reason)
