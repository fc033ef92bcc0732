"""All checks of one day."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from commonwatt.settlement.validation.day import Day, Energies, Finding, Flags, Limits
from commonwatt.settlement.validation.gaps import gaps
from commonwatt.settlement.validation.ordinary import high_or_low, zero
from commonwatt.settlement.validation.register import sum_against_register
from commonwatt.settlement.validation.spike import spike
from commonwatt.settlement.validation.stuck import stuck


@dataclass(frozen=True, kw_only=True, eq=False)
class Slots:
    """What is known of the slots of a day's quarters, (n, 96), and of the registers, (n)."""

    day: Day  # the meters' readings of flows as they were sent
    least: Energies  # the least reading of a slot in each quarter
    most: Energies  # the greatest one
    missing: Energies  # missing slots, without those in which the meter was off
    register: Energies  # the register's difference over the day
    has_register: Flags  # whether it is known


def checked(judged: Day, slots: Slots, limits: Limits) -> Sequence[Finding]:
    """Return everything the checks find in a day, by meter.

    Args:
        judged: Generation of each place with panels, use of each place with an incoming meter
            (``place_use``), under the incoming meter.
        slots: The readings as they were sent.
        limits: The thresholds.
    """
    if not len(judged.meter) and not len(slots.day.meter):
        return []
    found = [
        *high_or_low(judged, limits),
        *zero(judged, limits),
        *spike(judged, limits),
        *stuck(slots.day, slots.least, slots.most, limits),
        *sum_against_register(slots.day, slots.register, np.asarray(slots.has_register), limits),
        *gaps(slots.day, slots.missing, limits),
    ]
    return sorted(found, key=lambda one: (one.meter, one.record_type, one.first, one.check))
