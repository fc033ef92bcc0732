"""The most a meter can have measured, by what the registry knows of its service and its battery (T1, T8).

A reading above it is well formed, but nobody should be billed for it unseen: it is held until a person releases or
refuses it. Nothing is known of how far a cumulative register may have counted, so that is not judged.
"""

from collections.abc import Mapping
from functools import lru_cache

from commonwatt.model.records import RecordType
from commonwatt.model.units import SLOT_S, VOLTS, MilliwattHours

MARGIN_PERCENT = 125
"""A reading may be a quarter above what the registry says: breakers carry some more for a while, and a battery's
capacity is a nominal one."""


@lru_cache(maxsize=1024)
def limits_of(service_amps: int, battery_capacity: MilliwattHours | None) -> Mapping[int, MilliwattHours]:
    """Return the largest plausible reading of a slot, by record type; types that can't be judged are absent.

    Args:
        service_amps: The service the meter measures; at 240 V an ampere is 1,000 mWh in a slot.
        battery_capacity: What its battery holds when full, milliwatt-hours; ``None``: no battery is known.
    """
    carried = service_amps * VOLTS * 1000 * SLOT_S // 3600
    most = {int(kind): carried for kind in RecordType if kind.is_flow}
    if battery_capacity is not None:
        most[RecordType.STORED] = battery_capacity
    return {kind: value * MARGIN_PERCENT // 100 for kind, value in most.items()}
