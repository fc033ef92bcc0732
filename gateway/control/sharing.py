"""Decides which batteries of a microgrid share: one row for the strategies (C2, docs/control.md)."""

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field

import numpy as np

from commonwatt.energy.strategies import LEAST_S, Batteries, SharingPlan, strategy_of
from commonwatt.look.sharing_words import RoleReason
from commonwatt.model.units import MeterId, MilliwattHours
from commonwatt.protocol.commands import Kind
from gateway.control.meter_view import LIFETIMES
from gateway.control.plausibility import Doubt

REWEIGH = 250  # a donor is sent its weight again at once if it differs by more; smaller changes wait for the renewal
# Seconds until a renewed share_power_on ends. So more seconds are left only in the first ``LEAST_S`` of sharing.
RENEWED_S = LIFETIMES[Kind.SHARING].for_s - LEAST_S

DOUBTS = {
    Doubt.TOO_FAST: RoleReason.TOO_FAST,
    Doubt.CONTRADICTING: RoleReason.CONTRADICTING,
    Doubt.FROZEN: RoleReason.FROZEN,
    Doubt.DISOBEYS: RoleReason.DISOBEYS,
}
"""The doubts about a level as reasons."""


@dataclass(frozen=True, kw_only=True)
class BatteryState:
    """The state of a battery, from its meter's reports."""

    level: MilliwattHours  # the energy stored in it, milliwatt-hours
    capacity: MilliwattHours  # its capacity, milliwatt-hours
    minimum: MilliwattHours  # its sharing minimum, milliwatt-hours: below it the battery receives, and does not share
    available: bool = True  # whether it can take part: its level is recent, it is up and not isolated
    shares: bool = True  # whether it shares by command; else it only receives
    sharing: bool = False  # whether it shares now: ``share_power_on`` is in force at its meter
    recent: bool = False  # whether it began less than ``strategies.batteries.LEAST_S`` ago
    weight: int = 1  # its share of the discharge relative to other donors
    # Why its level can't be, or that it does not obey, so that it is not available; ``None``: neither.
    doubt: Doubt | None = None


@dataclass(frozen=True)
class SharingDecision:
    """The donors and the receivers."""

    # The weight of each donor; without receivers there are no donors.
    donors: Mapping[MeterId, int] = field(default_factory=dict)
    # The batteries below their minimum that are helped, or that no battery can help.
    receivers: frozenset[MeterId] = frozenset()


def decide(
    batteries: Mapping[MeterId, BatteryState],
    strategy: str,
    band_permille: int,
    *,
    alone: bool = False,
    island: bool = False,
) -> SharingDecision:
    """Return the decision of a strategy, by the meters' reports alone; the batteries' order does not matter.

    Args:
        batteries: Every battery of the microgrid, by its meter.
        band_permille: Thousandths of the capacity by which the start of help is delayed.
        alone: Whether the microgrid decides alone, without the utility.
        island: Whether it is an island.
    """
    meters, row = sorted(batteries), _row(batteries, band_permille, island=island)
    plan = strategy_of(strategy, alone=alone and not island)(row)
    weights = plan.weights[0].tolist()
    waiting = not plan.donors.any() and bool(row.able.any())
    in_need = () if waiting else np.flatnonzero(row.deficit[0])
    return SharingDecision(
        {meter: weight for meter, weight in zip(meters, weights, strict=True) if weight},
        frozenset(meters[place] for place in in_need),
    )


def reasons(
    batteries: Mapping[MeterId, BatteryState],
    strategy: str,
    band_permille: int,
    *,
    alone: bool = False,
    island: bool = False,
) -> dict[MeterId, RoleReason]:
    """Return the reason for each battery's role, for the arguments of ``decide``."""
    row = _row(batteries, band_permille, island=island)
    plan = strategy_of(strategy, alone=alone and not island)(row)
    found = {meter: reason(row, plan, strategy, 0, place) for place, meter in enumerate(sorted(batteries))}
    doubted = {meter: DOUBTS[each.doubt] for meter, each in batteries.items() if each.doubt is not None}
    return found | doubted


def _row(batteries: Mapping[MeterId, BatteryState], band_permille: int, *, island: bool) -> Batteries:
    """Return the batteries of one microgrid as arrays of one row, in the order of their meters' ids."""
    states = [batteries[meter] for meter in sorted(batteries)]

    def row(of: Callable[[BatteryState], int], kind: type = np.int64) -> np.ndarray:
        return np.array([[of(state) for state in states]], kind)

    return Batteries(
        level=row(lambda state: state.level),
        capacity=row(lambda state: state.capacity),
        minimum=row(lambda state: state.minimum),
        available=row(lambda state: state.available, np.bool_),
        may_share=row(lambda state: state.shares, np.bool_),
        sharing=row(lambda state: state.sharing, np.bool_),
        weight=row(lambda state: state.weight),
        band_permille=band_permille,
        islands=np.array([island]),
        recent=row(lambda state: state.recent, np.bool_),
    )


def near_minimum(batteries: Mapping[MeterId, BatteryState], permille: int) -> Set[MeterId]:
    """Return the batteries within ``permille`` thousandths of their capacity above their minimum, or below it."""
    return {m for m, b in batteries.items() if b.level <= b.minimum + b.capacity * permille // 1000}


def reason(batteries: Batteries, plan: SharingPlan, strategy: str, row: int, place: int) -> RoleReason:
    """Return the reason for the role of a battery.

    Args:
        row: The microgrid.
        place: The battery's place.
    """
    if not batteries.available[row, place]:
        return RoleReason.CANT
    if not batteries.usable[row, place]:
        return RoleReason.IMPOSSIBLE
    if plan.donors[row, place]:
        return RoleReason.HELPS if (batteries.deficit[row] > 0).any() else RoleReason.READY
    if batteries.deficit[row, place] > 0:
        return _in_need(batteries, plan, strategy, row)
    return _resting(batteries, plan, row, place)


def _in_need(batteries: Batteries, plan: SharingPlan, strategy: str, row: int) -> RoleReason:
    is_island = batteries.islands is not None and bool(batteries.islands[row])
    if plan.donors[row].any():
        return RoleReason.NEARLY_EMPTY if is_island else RoleReason.LOW
    if not batteries.able[row].any():
        return RoleReason.NO_HELPER
    if strategy == "aces":
        return RoleReason.WAITS_ACES
    return RoleReason.WAITS_ISLAND if is_island else RoleReason.WAITS_BAND


def _resting(batteries: Batteries, plan: SharingPlan, row: int, place: int) -> RoleReason:
    level, minimum = batteries.level[row, place], batteries.minimum[row, place]
    if level < minimum:
        return RoleReason.LOW_IN_ISLAND
    is_at = level == minimum
    if not batteries.may_share[row, place]:
        return RoleReason.ONLY_RECEIVES_AT if is_at else RoleReason.ONLY_RECEIVES
    if not plan.donors[row].any():
        # In a microgrid that waits for help to start, no battery needs help yet.
        return RoleReason.NO_NEED_AT if is_at else RoleReason.NO_NEED
    if batteries.able[row, place]:
        return RoleReason.LARGER_FIRST
    return RoleReason.NOTHING_ABOVE if is_at else RoleReason.TOO_CLOSE
