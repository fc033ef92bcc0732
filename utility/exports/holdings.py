"""Which quarters of which meters belong to some accounts: a reading is of the account that had the meter then (T8)."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from commonwatt.model.ids import MeterId
from commonwatt.model.units import AccountNumber, Quarter
from commonwatt.town.town import Direction
from utility.registry.accounts import DatedRegistry


@dataclass(frozen=True, kw_only=True)
class Held:
    """A period in which one of the accounts had a meter."""

    meter: MeterId  # the meter
    direction: Direction  # the direction that it measures
    first: Quarter  # the first quarter
    end: Quarter  # the quarter after the last


def held_by(registry: DatedRegistry, accounts: Collection[AccountNumber], first: Quarter, end: Quarter) -> list[Held]:
    """Return the periods of some accounts in ``[first, end)``, by meter and time."""
    return [
        Held(meter=meter.id, direction=meter.direction, first=start, end=stop)
        for _, meter in sorted(registry.meters.items())
        for account, start, stop in meter.held(first, end)
        if account in accounts
    ]


def is_held(
    meters: npt.NDArray[np.uint64], quarters: npt.NDArray[np.int64], held: Sequence[Held]
) -> npt.NDArray[np.bool_]:
    """Return which pairs of a meter and a quarter are within one of the periods; the arrays may be broadcast."""
    found = np.zeros(np.broadcast_shapes(meters.shape, quarters.shape), np.bool_)
    for one in held:
        found |= (meters == one.meter) & (quarters >= one.first) & (quarters < one.end)
    return found
