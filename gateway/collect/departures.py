"""The meters that leave a deposed controller: it answers none of their puts for a while, so that each tries another.

Otherwise, where the others do not hear a living controller, its meters would stay, and the manager would never reach
those that have no silent session with it. A meter that stays since it reaches no other is served again.
"""

from commonwatt.model.ids import MeterId
from commonwatt.model.units import EpochSeconds

UNANSWERED_S = 120  # seconds from a meter's first put without an answer; it leaves after two misses, 45 s
LEAVING_S = 3_600  # seconds after it was deposed in which meters leave; one that comes later reaches no other


class Departures:
    """The meters of one microgrid that are to leave."""

    def __init__(self) -> None:
        self._since: dict[MeterId, EpochSeconds] = {}
        self._deposed: EpochSeconds | None = None

    def look(self, now: EpochSeconds, *, deposed: bool) -> None:
        """Note whether the controller was deposed in the microgrid, now and then."""
        if not deposed:
            self._deposed = None
            self._since.clear()
        elif self._deposed is None:
            self._deposed = now

    def awaits(self, meter: MeterId, now: EpochSeconds) -> bool:
        """Return whether a put of a meter gets no answer."""
        # After a step of the clock, back or ahead, meters are served.
        if self._deposed is None or not 0 <= now - self._deposed <= LEAVING_S:
            return False
        return 0 <= now - self._since.setdefault(meter, now) < UNANSWERED_S
