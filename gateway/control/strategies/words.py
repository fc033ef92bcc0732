"""Why a battery shares, receives or rests; made on demand for one microgrid."""

from commonwatt.protocol.sharing_words import Why
from gateway.control.strategies.batteries import Batteries, Plan


def reason(batteries: Batteries, plan: Plan, strategy: str, row: int, place: int) -> Why:
    """Return the reason for the role of a battery.

    Args:
        plan: The plan of the strategy for them.
        strategy: The strategy's name.
        row: The microgrid.
        place: The battery's place.
    """
    if not batteries.available[row, place]:
        return Why.CANT
    if not batteries.usable[row, place]:
        return Why.IMPOSSIBLE
    if plan.donors[row, place]:
        return Why.HELPS if (batteries.deficit[row] > 0).any() else Why.READY
    if batteries.deficit[row, place] > 0:
        return _in_need(batteries, plan, strategy, row)
    return _resting(batteries, plan, row, place)


def _in_need(batteries: Batteries, plan: Plan, strategy: str, row: int) -> Why:
    is_island = batteries.islands is not None and bool(batteries.islands[row])
    if plan.donors[row].any():
        return Why.NEARLY_EMPTY if is_island else Why.LOW
    if not batteries.able[row].any():
        return Why.NO_HELPER
    if strategy == "aces":
        return Why.WAITS_ACES
    return Why.WAITS_ISLAND if is_island else Why.WAITS_BAND


def _resting(batteries: Batteries, plan: Plan, row: int, place: int) -> Why:
    level, minimum = batteries.level[row, place], batteries.minimum[row, place]
    if level < minimum:
        return Why.LOW_IN_ISLAND
    is_at = level == minimum
    if not batteries.may_share[row, place]:
        return Why.ONLY_RECEIVES_AT if is_at else Why.ONLY_RECEIVES
    if not plan.donors[row].any():
        # In a microgrid that waits for help to start, no battery needs help yet.
        return Why.NO_NEED_AT if is_at else Why.NO_NEED
    if batteries.able[row, place]:
        return Why.LARGER_FIRST
    return Why.NOTHING_ABOVE if is_at else Why.TOO_CLOSE
