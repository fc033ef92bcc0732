"""How much work a meter may ask of its gateway: slots to fill, by meter and minute. Pure.

An honest meter makes at most one slot a record type in 15 s: 12 a minute with three types. The burst covers the
backlog of seven weeks of such a meter at once, and the rate ten more weeks each minute.
"""

from commonwatt.model.units import EpochSeconds, MeterId
from commonwatt.runtime.bucket import Bucket

SLOTS_A_MINUTE = 120_000
"""Slots, or records where those are more, that a meter's puts may have in a minute."""

BURST_SLOTS = 1_000_000
"""So many at once after it was quiet."""


class SlotAllowance:
    """The allowances of a microgrid's meters; forgotten in a restart."""

    def __init__(self) -> None:
        self._buckets: dict[MeterId, Bucket] = {}

    def take(self, meter: MeterId, slots: int, now: EpochSeconds) -> bool:
        """Take a put's slots from its meter's allowance; ``False``, and nothing is taken, while it is overdrawn."""
        bucket = self._buckets.setdefault(meter, Bucket(SLOTS_A_MINUTE / 60, BURST_SLOTS, BURST_SLOTS, now))
        if bucket.take(0, now) > 0:
            return False
        bucket.take(slots, now)
        return True
