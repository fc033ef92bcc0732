"""Stuck meters: the same reading, not zero, in every slot for hours."""

import numpy as np

from commonwatt.settlement.validation.day import Check, Day, Energies, Finding, Limits, runs


def stuck(day: Day, least: Energies, most: Energies, limits: Limits) -> list[Finding]:
    """Find runs of quarter-hours whose every slot has one reading, not zero.

    A run is looked for within a day: one over midnight is found if either part is long enough.

    Args:
        day: Series of flows; a level may stand still.
        least: The least reading of a slot in each quarter, (n, 96).
        most: The greatest one, (n, 96).
        limits: The thresholds.
    """
    constant = day.known & (least == most) & (most != 0)
    found = []
    for row, start, end in runs(constant):
        # A run is split where the reading changes.
        changes = np.flatnonzero(np.diff(most[row, start:end])) + 1
        for first, until in zip([0, *changes.tolist()], [*changes.tolist(), end - start], strict=True):
            if until - first >= limits.stuck_quarters:
                found.append(
                    Finding(
                        meter=int(day.meter[row]),
                        record_type=int(day.record_type[row]),
                        first=day.first + start + first,
                        until=day.first + start + until,
                        check=Check.STUCK,
                        figure=until - first,
                        threshold=limits.stuck_quarters,
                    )
                )
    return found
