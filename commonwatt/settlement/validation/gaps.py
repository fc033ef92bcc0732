"""Gaps: slots without a reading, for which the meter was not off."""

import numpy as np
from numpy.typing import NDArray

from commonwatt.settlement.validation.day import Check, Day, Finding, Limits, runs


def gaps(day: Day, missing: NDArray[np.int64], limits: Limits) -> list[Finding]:
    """Find quarter-hours in a row with missing slots; the figure is the number of these slots.

    Args:
        day: The series.
        missing: Missing slots of each quarter, without those in which the meter was off, (n, 96).
        limits: The thresholds.
    """
    return [
        Finding(
            meter=int(day.meter[row]),
            record_type=int(day.record_type[row]),
            first=day.first + start,
            until=day.first + end,
            check=Check.GAP,
            figure=slots,
            threshold=limits.gap_slots,
        )
        for row, start, end in runs(missing > 0)
        if (slots := int(missing[row, start:end].sum())) >= limits.gap_slots
    ]
