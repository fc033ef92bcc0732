"""Why a battery shares, receives or rests, in words; made on demand for one microgrid."""

from dataclasses import dataclass
from typing import Literal

from gateway.control.strategies.batteries import Batteries, Plan

Role = Literal["gives", "receives", "rests", "out"]


@dataclass(frozen=True)
class Reason:
    """The role of a battery, and the reason.

    Attributes:
        role: Whether it gives, receives, rests, or can't take part (``out``).
        why: The reason, a sentence about the battery.
    """

    role: Role
    why: str


def reason(batteries: Batteries, plan: Plan, strategy: str, row: int, place: int) -> Reason:
    """Return the role of a battery and the reason.

    Args:
        batteries: The batteries.
        plan: The plan of the strategy for them.
        strategy: The strategy's name.
        row: The microgrid.
        place: The battery's place.
    """
    if not batteries.available[row, place]:
        return Reason("out", "It can't take part now.")
    if not batteries.usable[row, place]:
        return Reason("out", "Its meter reports a level that its battery can't have.")
    if plan.donors[row, place]:
        if not (batteries.deficit[row] > 0).any():
            return Reason("gives", "Above its minimum, and ready to share while the utility does not answer.")
        return Reason("gives", "Above its minimum, and another battery needs help.")
    if batteries.deficit[row, place] > 0:
        return _in_need(batteries, plan, strategy, row)
    return Reason("rests", _resting(batteries, plan, row, place))


def _in_need(batteries: Batteries, plan: Plan, strategy: str, row: int) -> Reason:
    if plan.donors[row].any():
        return Reason("receives", "Nearly empty, in an island." if _is_island(batteries, row) else "Below its minimum.")
    if not batteries.able[row].any():
        return Reason("receives", "Below its minimum, but no other battery can share.")
    if strategy == "aces":
        return Reason("rests", "Below its minimum; help starts when a battery is empty.")
    if _is_island(batteries, row):
        return Reason("rests", "Less than an hour of average use is left; help starts when it is nearly empty.")
    return Reason("rests", f"Less than {_percent(batteries)} % of its capacity below its minimum: help starts there.")


def _resting(batteries: Batteries, plan: Plan, row: int, place: int) -> str:
    level, minimum = batteries.level[row, place], batteries.minimum[row, place]
    if level < minimum:
        return "Below its minimum; in an island help starts when a battery is nearly empty."
    where = "At its minimum" if level == minimum else "Above its minimum"
    if not batteries.may_share[row, place]:
        return f"{where}; it can only receive."
    if not plan.donors[row].any():
        # In a microgrid that waits for help to start, no battery needs help yet.
        return f"{where}; no battery needs help."
    if batteries.able[row, place]:
        return "Above its minimum; larger surpluses give first."
    if level == minimum:
        return "At its minimum: it has nothing to share."
    return f"Less than {_percent(batteries)} % of its capacity above its minimum: too close to share."


def _percent(batteries: Batteries) -> str:
    return f"{batteries.band_permille / 10:g}"


def _is_island(batteries: Batteries, row: int) -> bool:
    return batteries.islands is not None and bool(batteries.islands[row])
