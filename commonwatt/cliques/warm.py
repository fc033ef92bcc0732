"""Which meters of a microgrid hold a silent session at each controller that may manage it (R13)."""

from collections.abc import Mapping

from commonwatt.model.ids import MeterId

LEAST = 4  # meters of each microgrid, at least


def warm_meters(batteries: Mapping[MeterId, bool]) -> tuple[MeterId, ...]:
    """Return those with a battery, and so many more that there are ``LEAST``, in the order of their ids.

    Args:
        batteries: Whether each meter of a microgrid has a battery, without those of its boundary.
    """
    with_battery = sorted(meter for meter, has in batteries.items() if has)
    others = sorted(meter for meter, has in batteries.items() if not has)
    return (*with_battery, *others[: max(0, LEAST - len(with_battery))])
