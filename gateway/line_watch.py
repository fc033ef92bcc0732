"""The watch over the LTE line: reads what it has cost, and warns of an allowance that will not do.

The account itself, day by day, is the core's (``gateway.lte.line``).
"""

import logging

from commonwatt.model.byte_count import ByteCount
from commonwatt.network.lte import Tally, interface_byte_count
from commonwatt.protocol.heartbeats import Month
from gateway.lte.line import INTERFACE, UTILITY, in_words

log = logging.getLogger(__name__)


class LineWatch:
    """Looks at the line, and at what the core makes of it.

    Args:
        interface: The network interface whose counters are the line's; ``None``: what the gateway's own connections
            to the utility cost is counted.

    Attributes:
        tally: Sums what those connections cost.
        month: How the line stood when it was last judged; ``None``: nothing of it was counted yet.
    """

    def __init__(self, interface: str | None) -> None:
        self.tally = Tally()
        self.month: Month | None = None
        self._interface = interface
        self._level = "unknown"

    def look(self) -> tuple[str, str, ByteCount] | None:
        """Return a side of the line, whose sums they are and the sums; ``None`` while the interface is not there."""
        if self._interface is None:
            return UTILITY, str(self.tally.run), self.tally.total()
        found = interface_byte_count(self._interface)
        return None if found is None else (INTERFACE, *found)

    def judge(self, month: Month | None) -> None:
        """Tell a person, once each time, that the line's allowance will not do."""
        level = "unknown" if month is None else month.level
        if level != self._level and level in ("at_risk", "exceeded"):
            log.warning("the LTE line is %s: %s", level.replace("_", " "), "; ".join(in_words(month)))
        self._level, self.month = level, month
