"""A day settled at once, of readings that are asked for quarter by quarter."""

from collections.abc import Callable, Mapping, Sequence

from commonwatt.model.ids import MeterId
from commonwatt.model.units import Quarter
from commonwatt.settlement.overlay import Corrected
from commonwatt.settlement.splits import Flags
from utility.registry.layout import Day, Layout
from utility.settlement.day import Rules, SettledDay, Settling


def settle_day(
    day: Day,
    layouts: Sequence[Layout],
    readings: Callable[[Quarter], Corrected],
    rules: Rules,
    sharing: Mapping[MeterId, Flags] | None = None,
) -> SettledDay:
    """Settle a day of some microgrids, as ``Settling``.

    Args:
        readings: Returns the readings of a quarter; called for the last one of the day before, then in order.
    """
    settling = Settling(day, layouts, rules, sharing or {})
    for quarter in settling.quarters:
        settling.add(readings(quarter))
    return settling.finished()
