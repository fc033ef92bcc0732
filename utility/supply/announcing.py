"""Which controllers are told of the supply: at a change, and once a quarter-hour while it is short (pure)."""

from dataclasses import dataclass

from commonwatt.model.supply import SupplyState
from commonwatt.model.units import EpochSeconds, Quarter
from utility.supply.rationing import Ration

RATION_S = 1800
"""For how long a controller keeps what it was told, seconds: it is told again each quarter-hour, so one may be lost."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a controller was last told.

    Attributes:
        quarter: The quarter-hour in which it was told.
        supply: The state of the regional supply.
        import_limit_w: Its import limit, watts; ``None``: no limit.
        until: Until when that holds.
    """

    quarter: Quarter
    supply: SupplyState
    import_limit_w: int | None
    until: EpochSeconds


def must_tell(ration: Ration, supply: SupplyState, told: Told | None, now: EpochSeconds, quarter: Quarter) -> bool:
    """Return whether a controller is to be told its ration.

    A state that is NORMAL without a limit is told only to end something else: controllers take it as given.
    """
    in_force = told is not None and told.until > now
    is_same = told is not None and (told.supply, told.import_limit_w) == (supply, ration.import_limit_w)
    if supply is SupplyState.NORMAL and ration.import_limit_w is None:
        return in_force and not is_same
    return not in_force or not is_same or (told is not None and told.quarter != quarter)
