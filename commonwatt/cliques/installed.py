"""Which brokers a meter has: those of the controllers that may manage its microgrid, then its collectors (A1, R13).

A *collector* takes the records of meters of another microgrid, so that no LTE line carries too much. It never manages
that microgrid.
"""

from collections.abc import Sequence

from commonwatt.model.ids import MeterId
from commonwatt.model.units import ControllerId

MOST = 8  # brokers of a meter


def installed(
    order: Sequence[ControllerId], collectors: Sequence[ControllerId], meter: MeterId
) -> tuple[ControllerId, ...]:
    """Return the brokers of a meter, home first. Meters with consecutive ids have other collectors.

    Args:
        order: The controllers that may manage its microgrid, its own first.
    """
    others = [name for name in collectors if name not in order]
    first = meter % len(others) if others else 0
    return (*order, *others[first:], *others[:first])[:MOST]
