"""The states of the regional grid's supply, and the limit of the town's line in each (A8)."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class SupplyState(StrEnum):
    """What the regional grid reports of its supply; in every state but ``NORMAL`` all microgrids reduce."""

    NORMAL = "normal"
    LOW = "low"
    CRITICAL = "critical"
    EMPTY = "empty"


LINE_PERCENT: Mapping[SupplyState, int] = MappingProxyType(
    {SupplyState.NORMAL: 200, SupplyState.LOW: 100, SupplyState.CRITICAL: 30, SupplyState.EMPTY: 0}
)
"""Limit of the line from the regional grid in each state, percent of the town's mean load. The sources name none."""


def line_limit_w(state: SupplyState, mean_load_w: int) -> int:
    """Return the most power, in watts, that the line delivers in a state to a town with this mean load, in watts."""
    return mean_load_w * LINE_PERCENT[state] // 100
