"""The plot of a bill by hour, as the script of plots reads it, and its hours by day."""

from collections import Counter
from datetime import date, datetime
from itertools import groupby
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from commonwatt.look.palette import PowerFlow
from commonwatt.model.units import EpochSeconds, MilliwattHours
from commonwatt.settlement.settled import QUANTITY_WORDS, Quantity
from utility.billing.documents.statement import Hours

DRAWN = (
    (Quantity.IMPORTED, PowerFlow.PLANT, 1),
    (Quantity.SHARED_IN, PowerFlow.NEIGHBOURS, 1),
    (Quantity.EXPORTED, PowerFlow.SUN, -1),
    (Quantity.SHARED_OUT, PowerFlow.BATTERY, -1),
)
"""What the plot shows: the quantity, the flow whose color it has, and its side of the axis."""


def hours_plot(by_hour: Hours) -> dict[str, Any]:
    """Return an account's energies by local hour, kWh; what is given lies below 0."""
    return {
        "series": [
            {
                "label": QUANTITY_WORDS[quantity],
                "flow": flow,
                "unit": "kWh",
                "x": list(by_hour.starts),
                "step_s": 3600,
                "high": (by_hour.energies[quantity] * (1e-6 * side)).round(6).tolist(),
                "marks": [],
                "missing": 0,
            }
            for quantity, flow, side in DRAWN
            if by_hour.energies[quantity].any()
        ],
    }


class HeatDay(NamedTuple):
    """A local day of a heat map."""

    day: date
    taken: MilliwattHours  # from the town and from neighbours
    cells: list[tuple[int, float, float]]  # of each hour: tenths of the greatest one, local hour, length in hours


def heat_of(by_hour: Hours, zone: ZoneInfo) -> tuple[list[HeatDay], tuple[EpochSeconds, MilliwattHours]]:
    """Return an account's hours by local day, and the greatest one; two that the clocks repeat share a cell's place."""
    taken = (by_hour.energies[Quantity.IMPORTED] + by_hour.energies[Quantity.SHARED_IN]).tolist()
    most = max(taken, default=0)
    times = [datetime.fromtimestamp(start, zone) for start in by_hour.starts]
    lengths = {hour: 1 / count for hour, count in Counter((time.date(), time.hour) for time in times).items()}
    days = []
    for day, group in groupby(zip(times, taken, strict=True), key=lambda each: each[0].date()):
        hours = [(time, energy, lengths[day, time.hour]) for time, energy in group]
        cells = [(round(10 * e / most) if most else 0, t.hour + t.fold * length, length) for t, e, length in hours]
        days.append(HeatDay(day, sum(energy for _, energy, _ in hours), cells))
    return days, max(zip(by_hour.starts, taken, strict=True), key=lambda each: each[1], default=(0, 0))
