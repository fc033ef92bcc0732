"""What a policy of buying is given, and what it returns."""

from collections.abc import Callable
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.units import QUARTER_S, EpochSeconds, MilliwattHours
from utility.supply.plant import Plant

MAX_HORIZON = 192  # quarters of prices that are used: two days


@dataclass(frozen=True, kw_only=True)
class Storm:
    """An announced storm, in which the line may fail."""

    start: EpochSeconds  # when it is expected; the battery should be full then
    end: EpochSeconds  # when it is expected to end


@dataclass(frozen=True, kw_only=True, eq=False)
class Situation:
    """The facts for one decision."""

    now: EpochSeconds  # the start of the quarter-hour to buy for
    plant: Plant  # the plant
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


Policy = Callable[[Situation], Purchase]  # a policy of buying


def within_limits(situation: Situation, energy: int, reason: str) -> Purchase:
    """Return a purchase cut to what line and battery can take at the expected net load, the cut in its reason."""
    plant = situation.plant
    intake = min(plant.power_quarter, plant.intake_to(plant.capacity))
    most = min(plant.line_quarter, max(0, situation.expected + intake))
    if energy > most:
        limit = "the line's limit" if most == plant.line_quarter else "what the battery can take"
        return Purchase(energy=most, reason=f"{reason}; cut to {limit}")
    return Purchase(energy=max(0, energy), reason=reason)
