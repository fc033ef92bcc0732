"""Linear interpolation of short gaps."""

import numpy as np

from commonwatt.model.units import SLOTS, MilliwattHours
from commonwatt.settlement.estimates import Energies, Flags
from commonwatt.settlement.estimates.methods import INTERPOLATED_SLOTS


def interpolated(
    values: Energies, known: Flags, outage: Flags, start: int, end: int, *, is_level: bool
) -> Energies | None:
    """Return the values of slots ``start`` to before ``end``; ``None``: they may not be interpolated.

    A gap of 2 h or more is not interpolated, nor one whose slot before or after it is missing or of an outage. Energy
    runs from the mean of the quarter-hour before to that of the quarter-hour after, as far as their slots are known:
    one slot alone may be a kettle's. A level runs from slot to slot.

    Args:
        values: Readings of a meter, (slots).
        known: Which are there.
        outage: Slots in which the meter was off, or its microgrid an island.
        start: First slot of the gap.
        end: The slot after its last.
        is_level: Whether the readings are levels.
    """
    count = end - start
    if count >= INTERPOLATED_SLOTS or start == 0 or end == len(values):
        return None
    if not (known[start - 1] and known[end]) or outage[start - 1] or outage[end]:
        return None
    length = 1 if is_level else SLOTS
    sides = slice(max(0, start - length), start), slice(end, end + length)
    before, after = (_mean(values[side], known[side] & ~outage[side]) for side in sides)
    return line(before, after, count)


def line(before: MilliwattHours, after: MilliwattHours, count: int) -> Energies:
    """Return ``count`` values between two others, rounded."""
    steps = np.arange(1, count + 1)
    return np.asarray((before * (count + 1 - steps) + after * steps + (count + 1) // 2) // (count + 1))


def _mean(values: Energies, known: Flags) -> MilliwattHours:
    return int(values[known].sum()) // int(known.sum())
