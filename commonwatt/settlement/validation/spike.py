"""Spikes: one quarter-hour far above the day's others."""

import numpy as np

from commonwatt.settlement.validation.day import Check, Day, Finding, Limits


def spike(day: Day, limits: Limits) -> list[Finding]:
    """Find the highest quarter-hour of a day that is far above the third-highest; not on days with an outage."""
    energy = np.where(day.known, day.energy, 0)
    third = np.partition(energy, -3, axis=1)[:, -3]
    place = energy.argmax(axis=1)
    highest = energy[np.arange(len(energy)), place]
    percent = highest * 100 // np.maximum(third, 1)
    # The quarter-hours after an outage are high: what was switched off is switched on.
    judged = ~day.outage.any(axis=1) & (highest >= limits.spike_least) & (third > 0)
    return [
        Finding(
            meter=int(day.meter[row]),
            record_type=int(day.record_type[row]),
            first=day.first + int(place[row]),
            until=day.first + int(place[row]) + 1,
            check=Check.SPIKE,
            figure=int(percent[row]),
            threshold=limits.spike_percent,
        )
        for row in np.flatnonzero(judged & (percent > limits.spike_percent)).tolist()
    ]
