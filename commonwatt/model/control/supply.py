"""The state of the regional grid's supply (A8)."""

from enum import StrEnum

LASTS_H = 12
"""Hours for which, in a shortage, the energy above the plant's reserve has to last: for the classes above, then for a
class itself."""


class SupplyState(StrEnum):
    """What the regional grid reports of its supply; in every state but ``NORMAL`` all microgrids reduce."""

    NORMAL = "NORMAL"
    LOW = "LOW"
    CRITICAL = "CRITICAL"
    EMPTY = "EMPTY"
