"""The sum of a meter's readings beside the difference of its cumulative register."""

import numpy as np

from commonwatt.settlement.validation.day import Check, Day, Energies, Finding, Flags, Limits, findings


def sum_against_register(day: Day, difference: Energies, has: Flags, limits: Limits) -> list[Finding]:
    """Find days whose readings do not add up to the register's difference; the figure is sum minus difference.

    Args:
        day: Series of energy through meters.
        difference: The register at the day's end minus the register at its beginning, (n).
        has: Whether both are known, (n).
        limits: The thresholds.
    """
    off = day.total - difference
    allowed = np.maximum(np.abs(difference) * limits.register_permille // 1000, limits.register_least)
    rows = np.flatnonzero(has & day.known.all(axis=1) & (np.abs(off) > allowed))
    return [
        one
        for row in rows
        for one in findings(day, np.array([row]), Check.REGISTER, [int(off[row])], int(allowed[row]))
    ]
