"""The utility's time: its machine's, wherever that is set; reported as certain only if that clock is kept."""

import logging

from commonwatt.model.machine import Machine
from commonwatt.model.trust import Trust
from commonwatt.runtime.clock import Clock

TOLERANCE_S = 1
"""What the machine's clock and the service's differ by without being set to each other, seconds."""

log = logging.getLogger(__name__)


class Timekeeper:
    """Keeps the service's clock at its machine's.

    Attributes:
        trust: How far gateways may trust the time that they are sent; ``None`` before the first look.
    """

    def __init__(self, clock: Clock, *, is_right: bool) -> None:
        """Take the clock to keep, and whether the machine's is right though its kernel does not know who keeps it."""
        self.trust: Trust | None = None
        self._clock = clock
        self._is_right = is_right

    def look(self, machine: Machine) -> Trust:
        """Follow the machine's clock; return how far it can be trusted."""
        by_s = machine.wall - machine.raw
        if abs(by_s) > TOLERANCE_S:
            log.warning("the machine's clock is %+.0f s off the time here: following it", by_s)
            self._clock.follow(machine.wall)
        trust = Trust.NETWORK if self._is_right or machine.synchronised else Trust.NONE
        if trust is not self.trust:
            self.trust = trust
            if trust is Trust.NONE:
                log.error(
                    "nobody keeps this machine's clock, as its kernel knows: gateways won't take the time from here;"
                    " start NTP, or if something else keeps it, set clock_is_right"
                )
            else:
                log.info("gateways may take the time from here")
        return trust
