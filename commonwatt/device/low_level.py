"""When a meter sends its battery's level by itself: below the sharing minimum (docs/protocol.md#levels)."""

from commonwatt.model.units import SLOT_S, EpochSeconds, MilliwattHours
from commonwatt.town.town import Battery


class LowLevel:
    """The lowest mark that a level sent since the battery was last at its minimum was below."""

    def __init__(self) -> None:
        self._mark = 0  # 0: at the minimum or above; 1: below it; each whole percent of the capacity below adds 1
        self._sent_at: EpochSeconds | None = None  # when the meter last sent a level by itself

    def is_due(self, battery: Battery, level: MilliwattHours, at: EpochSeconds) -> bool:
        """Return whether the level passed a further mark, or is back at the minimum; if so, count it as sent."""
        mark = _mark(battery, level)
        # After the clock was set back, the earlier time does not count.
        recent = self._sent_at is not None and 0 <= at - self._sent_at < SLOT_S
        if recent or self._mark >= mark > 0 or mark == self._mark:
            return False
        self._mark, self._sent_at = mark, at
        return True

    def sent(self, battery: Battery, level: MilliwattHours) -> None:
        """Count a level that was sent on request."""
        mark = _mark(battery, level)
        self._mark = mark and max(mark, self._mark)


def _mark(battery: Battery, level: MilliwattHours) -> int:
    deficit = -(-battery.capacity * battery.minimum_percent // 100) - level
    return 1 + deficit * 100 // battery.capacity if deficit > 0 else 0
