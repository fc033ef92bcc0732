"""How fast the demonstration's clock runs: it slows while a part can't keep up with it (docs/time.md). Pure."""

from collections.abc import Mapping, Set
from typing import Any

BEHIND_S = 60.0  # town seconds behind from which the clock slows: a control loop then misses whole minutes
KEEPS_UP_S = 20.0  # town seconds behind below which the clock becomes faster again
SLOWER, FASTER = 0.5, 1.25  # factors of the speed at each look at the parts


def paced(speed: float, highest: float, behind_s: float) -> float:
    """Return the clock's next speed, town seconds in a real second: at least 1, at most ``highest``.

    Args:
        speed: Its present speed.
        highest: The speed that the user asked for.
        behind_s: Town seconds by which the slowest part is behind.
    """
    factor = SLOWER if behind_s > BEHIND_S else FASTER if behind_s < KEEPS_UP_S else 1.0
    return min(highest, max(1.0, speed * factor))


def behind_s(seen: Mapping[str, Mapping[str, Any]], silent: Set[str], now: float) -> float:
    """Return the town seconds by which the slowest part is behind: fleet, gateways, the utility's queue.

    Args:
        seen: The last status of each part.
        silent: Parts that did not answer the last request: they are as far behind as their last status is old.
        now: The town's time at the request.
    """
    told = [0.0]
    for name, status in seen.items():
        if name == "utility" or name.endswith((" meters", " gateway")):
            own = next((status[key] for key in ("lag_s", "queue_s") if key in status and name not in silent), 0.0)
            # A gateway's status is made by the loop that works: a busy one's is old.
            is_old = name in silent or name.endswith(" gateway")
            told.append(max(own, now - status["time"]) if is_old else own)
    return max(told)
