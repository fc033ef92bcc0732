"""The meters that leave a deposed controller: it answers none of their puts for a while, so that each tries another.

Otherwise, where the others do not hear a living controller, its meters would stay, and the manager would never reach
those that have no silent session with it. A meter that stays since it reaches no other is served again.
"""

from commonwatt.model.ids import MeterId
from commonwatt.model.units import EpochSeconds

SILENT_S = 120  # seconds from a meter's first put without an answer; it leaves after two misses, 45 s


class Departures:
    """The meters of one microgrid that are to leave."""

    def __init__(self) -> None:
        self._since: dict[MeterId, EpochSeconds] = {}

    def awaits(self, meter: MeterId, now: EpochSeconds, *, deposed: bool) -> bool:
        """Return whether a put of a meter gets no answer.

        Args:
            meter: The meter.
            now: The time.
            deposed: Whether another controller manages the microgrid.
        """
        if not deposed:
            self._since.clear()
        return deposed and now - self._since.setdefault(meter, now) < SILENT_S
