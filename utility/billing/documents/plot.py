"""The plot of a bill by hour, as the script of plots reads it."""

from typing import Any

from commonwatt.look.palette import PowerFlow
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
