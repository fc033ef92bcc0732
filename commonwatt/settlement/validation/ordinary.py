"""Days beside a meter's ordinary day: too high, too low, without energy."""

import numpy as np

from commonwatt.settlement.validation.day import Check, Day, Energies, Finding, Flags, Limits, findings


def high_or_low(day: Day, limits: Limits) -> list[Finding]:
    """Find days far above or below the mean of the days before; days with an outage or a gap are not judged."""
    mean, enough = ordinary_day(day, limits)
    judged = enough & day.ordinary & (mean > 0)
    percent = np.where(judged, day.total * 100 // np.maximum(mean, 1), 100)
    above = np.flatnonzero(percent > limits.high_percent)
    # A day without energy is the check `zero`'s.
    below = np.flatnonzero((percent < limits.low_percent) & (day.total != 0))
    return findings(day, above, Check.HIGH, percent[above], limits.high_percent) + findings(
        day, below, Check.LOW, percent[below], limits.low_percent
    )


def zero(day: Day, limits: Limits) -> list[Finding]:
    """Find meters that used to measure energy, and measure none for some days."""
    mean, enough = ordinary_day(day, limits)
    days = day.before.shape[1]
    is_zero = (day.before == 0) & day.usable
    # How many days directly before this one are without energy.
    run = np.cumprod(is_zero[:, ::-1], axis=1).sum(axis=1) if days else np.zeros(len(day.meter), np.int64)
    found = enough & day.ordinary & (mean > 0) & (day.total == 0) & (run + 1 >= limits.zero_days)
    # Of a meter that often has no energy for days, such as one for export, a day without is ordinary.
    often = is_zero.sum(axis=1) > run
    rows = np.flatnonzero(found & ~often)
    return findings(day, rows, Check.ZERO, run[rows] + 1, limits.zero_days)


def ordinary_day(day: Day, limits: Limits) -> tuple[Energies, Flags]:
    """Return each series' mean energy of the days before, and whether there are enough of them, (n)."""
    used = day.usable
    count = used.sum(axis=1)
    return np.where(used, day.before, 0).sum(axis=1) // np.maximum(count, 1), np.asarray(count >= limits.least_days)
