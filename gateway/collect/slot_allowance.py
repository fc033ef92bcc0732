"""Rate limit for each meter's puts, in slots a minute. Pure.

A correct meter makes at most one slot a record type in 15 s: 12 a minute with three types. The burst covers the
backlog of eight weeks of such a meter at once, and the rate almost one more week each minute.
"""

from commonwatt.model.ids import MeterId
from commonwatt.model.units import EpochSeconds
from commonwatt.runtime.bucket import Bucket

# Slots that a meter's puts may cover in a minute; records, where there are more records than slots.
SLOTS_A_MINUTE = 120_000
BURST_SLOTS = 1_000_000  # slots that a meter's puts may cover at once after a pause


class SlotAllowance:
    """The allowances of a microgrid's meters; a restart resets them."""

    def __init__(self) -> None:
        self._buckets: dict[MeterId, Bucket] = {}

    def take(self, meter: MeterId, slots: int, now: EpochSeconds) -> bool:
        """Take a put's slots from its meter's allowance; ``False``: it is overdrawn, and nothing is taken."""
        bucket = self._buckets.setdefault(meter, Bucket(SLOTS_A_MINUTE / 60, BURST_SLOTS, BURST_SLOTS, now))
        if bucket.take(0, now) > 0:
            return False
        bucket.take(slots, now)
        return True
