"""The utility's time: its machine's clock; reported as trusted only if that clock is synchronized."""

import logging
from dataclasses import dataclass

from commonwatt.model.time.machine import Machine
from commonwatt.model.time.now import Trust
from commonwatt.runtime.clock import Clock

TOLERANCE_S = 1  # largest difference between the machine's clock and the service's that is not corrected, seconds

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Timekeeper:
    """Keeps the service's clock equal to its machine's."""

    clock: Clock  # the service's clock
    is_right: bool  # the machine's clock is synchronized although its kernel reports that it is not
    trust: Trust | None = None  # how far gateways may trust the utility's time; ``None``: ``look`` was not called

    def look(self, machine: Machine) -> Trust:
        """Follow the machine's clock; return its trust."""
        by_s = machine.wall - machine.raw
        if abs(by_s) > TOLERANCE_S:
            log.warning("the machine's clock is %+.0f s off the time here: following it", by_s)
            self.clock.follow(machine.wall)
        trust = Trust.NETWORK if self.is_right or machine.synchronised else Trust.NONE
        if trust is not self.trust:
            self.trust = trust
            if trust is Trust.NONE:
                log.error(
                    "the kernel reports that this machine's clock is not synchronized: gateways won't use its time;"
                    " start NTP, or if something else synchronizes it, set clock_is_right"
                )
            else:
                log.info("gateways may use this machine's time")
        return trust
