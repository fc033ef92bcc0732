"""The plant in one quarter-hour, for comparisons of policies; exact integers."""

from dataclasses import dataclass

from commonwatt.model.units import MilliwattHours
from utility.supply.plant import Plant


@dataclass(frozen=True, kw_only=True)
class Step:
    """What flowed in one quarter-hour, milliwatt-hours."""

    level: MilliwattHours  # the battery's level at the end
    bought: MilliwattHours  # energy from the regional grid
    refused: MilliwattHours  # residents' surplus that found no room
    below_reserve: MilliwattHours  # energy taken from below the reserve
    unserved: MilliwattHours  # load without supply
    lost: MilliwattHours  # lost in charging


def step(plant: Plant, net: MilliwattHours, purchase: MilliwattHours) -> Step:
    """Return a quarter-hour with a net load and a purchase.

    The battery takes or gives the difference. If it can't take all, less is bought, then surplus refused. If it can't
    give all above its reserve, more is bought up to the line's limit; then it gives below its reserve, to its floor.
    """
    bought = min(max(0, purchase), plant.line_quarter)
    over = bought - net
    if over >= 0:
        intake = min(over, plant.power_quarter, plant.intake_to(plant.capacity))
        stored = min(plant.stored(intake), max(0, plant.capacity - plant.level))
        less = min(bought, over - intake)
        return Step(
            level=plant.level + stored,
            bought=bought - less,
            refused=over - intake - less,
            below_reserve=0,
            unserved=0,
            lost=intake - stored,
        )
    above = min(-over, plant.power_quarter, max(0, plant.level - plant.reserve))
    more = min(-over - above, plant.line_quarter - bought)
    missing = -over - above - more
    below = min(missing, plant.power_quarter - above, max(0, min(plant.level, plant.reserve) - plant.floor))
    return Step(
        level=plant.level - above - below,
        bought=bought + more,
        refused=0,
        below_reserve=below,
        unserved=missing - below,
        lost=0,
    )
