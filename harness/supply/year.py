"""A year of purchases: one policy on one net load, with its cost."""

import time
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.time.local_time import DAY_QUARTERS
from commonwatt.model.units import QUARTER_S, EpochSeconds, MilliwattHours
from harness.supply.plant import step
from harness.supply.town import BEGIN, MEAN_W, TABLE, WARM_UP_DAYS, ZONE
from utility.supply.buying.situation import MAX_HORIZON, Policy, Situation, Storm
from utility.supply.plant import Plant

HISTORY = 34 * DAY_QUARTERS  # quarters of history that a policy is given

PLANT = Plant(
    level=MEAN_W * 12 * 500,
    capacity=MEAN_W * 12 * 1000,
    floor=MEAN_W * 12 * 50,
    reserve=MEAN_W * 12 * 250,
    power_w=MEAN_W * 3,
    loss_permille=100,
    line_w=MEAN_W * 2,
)
"""The plant of every comparison: 12 h of mean load, power for 4 h, a reserve of 25 %, 10 % lost in charging."""


@dataclass(frozen=True, kw_only=True, eq=False)
class World:
    """One year as the plant sees it; arrays have a value a quarter-hour.

    Attributes:
        net: The town's net load from ``BEGIN``, warm-up included, milliwatt-hours.
        prices: The price in the same quarters, and two days more.
        credit: The price of residents' exports.
        line: The limit of the line in the same quarters, watts.
        peak_hours: The local hours of the peak price by the town file.
        storm: By quarter, the announced storm; empty: none is ever announced.
    """

    net: NDArray[np.int64]
    prices: NDArray[np.int64]
    credit: int
    line: NDArray[np.int64]
    peak_hours: tuple[int, ...] = TABLE.peak_hours
    storms: tuple[Storm, ...] = ()
    first: int = WARM_UP_DAYS * DAY_QUARTERS
    notice_s: int = 36 * 3600

    @property
    def scored(self) -> slice:
        """The quarters that count."""
        return slice(self.first, len(self.net))

    def storm_at(self, now: EpochSeconds) -> Storm | None:
        """Return the storm that is announced or present."""
        return next((each for each in self.storms if each.start - self.notice_s <= now < each.end), None)


@dataclass(kw_only=True)
class Year:
    """What a policy made of a year."""

    # Paid for purchases and residents' exports, less the worth of what the battery holds at the end; price times
    # watt-hours.
    cost: float = 0.0
    bought: MilliwattHours = 0  # energy from the regional grid
    refused: MilliwattHours = 0  # residents' exports that found no room
    below_reserve: MilliwattHours = 0  # energy taken from below the reserve
    unserved: MilliwattHours = 0  # load without supply
    seconds: list[float] = field(default_factory=list)  # the time of each decision
    fallbacks: int = 0  # decisions that the planner left to its rule


def run(policy: Policy, world: World, plant: Plant = PLANT) -> Year:
    """Return a policy's year."""
    year, paid = Year(), 0
    for place in range(world.scored.start, world.scored.stop):
        plant = replace(plant, line_w=int(world.line[place]))
        now = BEGIN + place * QUARTER_S
        situation = Situation(
            now=now,
            plant=plant,
            prices=world.prices[place : place + MAX_HORIZON],
            credit=world.credit,
            history=world.net[max(0, place - HISTORY) : place],
            zone=ZONE,
            peak_hours=world.peak_hours,
            storm=world.storm_at(now),
        )
        started = time.thread_time()
        purchase = policy(situation)
        year.seconds.append(time.thread_time() - started)
        year.fallbacks += "by rule" in purchase.reason
        net = int(world.net[place])
        done = step(plant, net, purchase.energy)
        plant = replace(plant, level=done.level)
        paid += done.bought * int(world.prices[place]) + (max(0, -net) - done.refused) * world.credit
        year.bought += done.bought
        year.refused += done.refused
        year.below_reserve += done.below_reserve
        year.unserved += done.unserved
    year.cost = (paid - plant.level * int(world.prices[world.scored].min())) / 1000
    return year
