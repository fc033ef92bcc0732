"""Whether a battery's reported level can be: three rules on two hours of its place's readings (docs/control.md).

A battery whose level can't be takes no part in sharing until its readings can be again. The rules have no memory: they
look at stored readings alone, so that a restarted gateway judges the same.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.units import SLOT_S, EpochSeconds, MilliwattHours

WINDOW_SLOTS = 480  # slots looked at: two hours
JUMP_SLOTS = 20  # slots for which a jump excludes a battery: five minutes
# Thousandths of the capacity by which a level may change beyond its limits of power: a meter may count in percent.
JUMP_PERMILLE = 10
# Thousandths of the capacity by which a level may rise beyond the energy that the place's meters counted.
EXCESS_PERMILLE = 20
FROZEN_SLOTS = 20  # slots with the same level after which it may be frozen: five minutes
FROZEN_PERMILLE = 20  # thousandths of the capacity that the place's meters count while a frozen level stays the same
# A full battery may stand still, and so may one that sharing holds at its minimum: these levels are not frozen.
_FULL_PERMILLE = 950


class Doubt(StrEnum):
    """Why a level can't be."""

    TOO_FAST = "too fast"
    CONTRADICTING = "contradicting"
    FROZEN = "frozen"
    DISOBEYS = "disobeys"  # not of its level: it did not share when it was told to


@dataclass(frozen=True, kw_only=True, eq=False)
class History:
    """The readings of one place in the slots of a window, the oldest first."""

    level: NDArray[np.int64]  # the battery's level at the end of each slot, milliwatt-hours; -1: not known
    # Generation and intake of the place in each slot; -1: not known, or not all of it is metered.
    inflow: NDArray[np.int64]
    outflow: NDArray[np.int64]  # what the place sent into the loop in each slot; -1: not known
    end: EpochSeconds  # end of the last slot
    capacity: MilliwattHours  # the battery's capacity
    minimum: MilliwattHours  # its sharing minimum
    most: MilliwattHours  # most energy by which a level can change in a slot


@dataclass(frozen=True, kw_only=True)
class RecordedBattery:
    """What is known of a battery from its stored readings."""

    doubt: Doubt | None = None  # why its level can't be; ``None``: it can
    level: MilliwattHours | None = None  # its last stored level, milliwatt-hours; ``None``: there is none in the window
    time: EpochSeconds = 0  # end of that level's slot
    capacity: MilliwattHours = 0  # its capacity
    most: MilliwattHours = 0  # most energy by which its level can change in a slot

    def judge(self, level: MilliwattHours, time: EpochSeconds) -> Doubt | None:
        """Return the doubt about a live level, which may be newer than the stored ones."""
        if self.doubt is not None or self.level is None:
            return self.doubt
        slots = abs(time - self.time) // SLOT_S + 1
        limit = self.most * slots + self.capacity * JUMP_PERMILLE // 1000
        return Doubt.TOO_FAST if abs(level - self.level) > limit else None


def recorded_of(history: History) -> RecordedBattery:
    """Judge the levels of a place's battery."""
    known = np.flatnonzero(history.level >= 0)
    if not known.size:
        return RecordedBattery()
    behind = len(history.level) - 1 - int(known[-1])
    return RecordedBattery(
        doubt=_doubt_of(history, known),
        level=int(history.level[known[-1]]),
        time=history.end - behind * SLOT_S,
        capacity=history.capacity,
        most=history.most,
    )


def _doubt_of(history: History, known: NDArray[np.intp]) -> Doubt | None:
    if _jumped(history, known):
        return Doubt.TOO_FAST
    if _exceeds(history):
        return Doubt.CONTRADICTING
    return Doubt.FROZEN if _stands(history, known) else None


def _jumped(history: History, known: NDArray[np.intp]) -> bool:
    """Return whether the level changed faster than the limits of power allow, in the last minutes."""
    change = np.abs(np.diff(history.level[known]))
    limit = history.most * np.diff(known) + history.capacity * JUMP_PERMILLE // 1000
    recent = known[1:] >= len(history.level) - JUMP_SLOTS
    return bool((recent & (change > limit)).any())


def _exceeds(history: History) -> bool:
    """Return whether the last level is higher than an earlier one and the energy counted since allow."""
    # Loads and losses only lower a level: the level less inflow plus outflow never rises, but for the meters'
    # tolerance. Only the last slots without a gap are compared.
    whole = (history.level >= 0) & (history.inflow >= 0) & (history.outflow >= 0)
    found = np.flatnonzero(whole)
    if not found.size:
        return False
    last = int(found[-1])
    gaps = np.flatnonzero(~whole[:last])
    run = slice(int(gaps[-1]) + 1 if gaps.size else 0, last + 1)
    rest = history.level[run] - np.cumsum(history.inflow[run] - history.outflow[run])
    return bool(rest[-1] - rest.min() > history.capacity * EXCESS_PERMILLE // 1000)


def _stands(history: History, known: NDArray[np.intp]) -> bool:
    """Return whether the level stays the same to the milliwatt-hour while energy flows, or for the whole window."""
    last = history.level[known[-1]]
    if not history.minimum * 1000 < last * 1000 <= history.capacity * _FULL_PERMILLE:
        return False
    others = np.flatnonzero(history.level[known] != last)
    since = int(known[others[-1] + 1]) if others.size else int(known[0])
    if int(known[-1]) - since < FROZEN_SLOTS:
        return False
    counted = sum(int(np.maximum(flow[since + 1 :], 0).sum()) for flow in (history.inflow, history.outflow))
    return counted >= history.capacity * FROZEN_PERMILLE // 1000 or since == 0
