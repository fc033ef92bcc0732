"""Reads the LTE line's byte count, and logs a warning when the allowance is at risk.

The core keeps the byte count by day (``gateway.line.line``).
"""

import logging

from commonwatt.model.byte_count import ByteCount
from commonwatt.network.lte import Tally, interface_byte_count
from commonwatt.protocol.heartbeats import Month
from gateway.line.line import INTERFACE, UTILITY, in_words

log = logging.getLogger(__name__)


class LineWatch:
    """Reads the line's byte count, and checks the core's forecast.

    Args:
        interface: The network interface whose counters are the line's; ``None``: the gateway's own connections to
            the utility are counted.
    """

    def __init__(self, interface: str | None) -> None:
        self.tally = Tally()  # the byte count of those connections
        self.month: Month | None = None  # the line's month at the last check; ``None``: nothing was counted yet
        self._interface = interface
        self._level = "unknown"

    def look(self) -> tuple[str, str, ByteCount] | None:
        """Return a side of the line, its counter's run and byte count; ``None`` while the interface is absent."""
        if self._interface is None:
            return UTILITY, str(self.tally.run), self.tally.total()
        found = interface_byte_count(self._interface)
        return None if found is None else (INTERFACE, *found)

    def judge(self, month: Month | None) -> None:
        """Log a warning when the line's level changes to at risk or exceeded."""
        level = "unknown" if month is None else month.level
        if level != self._level and level in ("at_risk", "exceeded"):
            log.warning("the LTE line is %s: %s", level.replace("_", " "), "; ".join(in_words(month)))
        self._level, self.month = level, month
