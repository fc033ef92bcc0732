"""The state of the regional grid's supply (A8)."""

from enum import StrEnum


class SupplyState(StrEnum):
    """What the regional grid reports of its supply; in every state but ``NORMAL`` all microgrids reduce."""

    NORMAL = "NORMAL"
    LOW = "LOW"
    CRITICAL = "CRITICAL"
    EMPTY = "EMPTY"
