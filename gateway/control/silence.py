"""Which meters a gateway has heard, for its status page."""

from collections.abc import Mapping

from commonwatt.model.ids import MeterId
from commonwatt.model.units import EpochSeconds
from gateway.control.manager import MeterView

SILENT_S = 300
"""Seconds without a message after which a meter is shown as silent; at least three periods of ``collect_s``."""


def meters_heard(
    views: Mapping[MeterId, MeterView], now: EpochSeconds, collect_s: int
) -> dict[str, int | dict[str, int | None]]:
    """Return the number of registered meters, of those that answered, and the silent meters.

    Args:
        views: The meters' present states.
        now: The time.
        collect_s: Seconds between two requests for the records of a meter that does not send them by itself.

    Returns:
        JSON; ``silent`` has the time of a silent meter's last message, ``None``: none since the gateway's start.
    """
    longest_s = max(SILENT_S, 3 * collect_s)
    silent = {
        str(meter): view.heard for meter, view in views.items() if view.heard is None or now - view.heard > longest_s
    }
    return {"registered": len(views), "answered": sum(view.answered for view in views.values()), "silent": silent}
