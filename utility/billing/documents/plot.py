"""The plot of a bill by hour, in its own units."""

from datetime import datetime
from functools import lru_cache
from itertools import groupby
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

import numpy as np

from commonwatt.model.palette import LOOKS, STATES, PowerFlow
from commonwatt.settlement.settled import QUANTITY_WORDS, Quantity, SettledQuality
from utility.billing.documents.statement import Hours, kwh
from utility.billing.proof.leaf import Course

Points: TypeAlias = list[tuple[float, float]]

# The height of each step of a line, in parts of a unit (``GRID``), and the number of the hour before which it ends.
# Whole numbers make small files.
Steps: TypeAlias = list[tuple[int, int]]

WIDTH, HEIGHT, LEFT, BOTTOM = 860, 240, 52, 20  # of the plot, in its own units
GRID = 2  # heights of steps in a unit

_LOOKS = (
    (Quantity.IMPORTED, PowerFlow.PLANT, 1),
    (Quantity.SHARED_IN, PowerFlow.NEIGHBOURS, 1),
    (Quantity.EXPORTED, PowerFlow.SUN, -1),
    (Quantity.SHARED_OUT, PowerFlow.BATTERY, -1),
)
DRAWN = tuple((quantity, QUANTITY_WORDS[quantity], LOOKS[flow].light, side) for quantity, flow, side in _LOOKS)
"""What the plot shows: the quantity, its words, the color of its source, and its side of the axis."""

_DATED = (1, 6, 11, 16, 21, 26)  # days of the month whose place is named

ESTIMATE = STATES["bad"].light
"""The color of marks at hours with estimates or without data."""


def hours_plot(by_hour: Hours) -> dict[str, Any]:
    """Return an account's energies by local hour as the script of plots reads them, kWh; what is given lies below 0."""
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
            for quantity, flow, side in _LOOKS
            if by_hour.energies[quantity].any()
        ],
    }


class Plot:
    """The places of everything that the plot shows."""

    def __init__(self, found: Hours) -> None:
        self._found = found
        of = found.energies
        self._above = int((of[Quantity.IMPORTED] + of[Quantity.SHARED_IN]).max(initial=0))
        self._below = int((of[Quantity.EXPORTED] + of[Quantity.SHARED_OUT]).max(initial=0))
        self.low = float(HEIGHT - BOTTOM - 4)  # the lowest place of areas, where marks begin
        self._unit = (self.low - 12) / max(self._above + self._below, 1)
        self.zero = 12 + self._above * self._unit  # the height of the axis
        self.step = (WIDTH - LEFT) / max(len(found.starts), 1)  # the width of an hour

    def areas(self) -> list[tuple[str, Steps]]:
        """Return each area's color and steps, from the axis: a later area covers a part of the one before it."""
        made: list[tuple[str, Steps]] = []
        base: dict[int, Course] = {}
        for quantity, _, color, side in DRAWN:
            energy = self._found.energies[quantity]
            if energy.any():
                base[side] = base.get(side, energy * 0) + energy
                made.append((color, self._steps(base[side], side)))
        return made[::-1]

    def marks(self) -> Points:
        """Return place and width of the runs of hours with estimates or without data."""
        worst, at, made = self._found.worst, 0, []
        for bad, group in groupby(worst <= SettledQuality.ESTIMATED):
            count = sum(1 for _ in group)
            if bad:
                made.append((LEFT + at * self.step, count * self.step))
            at += count
        return made

    def days(self, zone: ZoneInfo) -> list[tuple[float, str]]:
        """Return the place of every fifth local day, and its words."""
        return [(LEFT + n * self.step, text) for n, text in _dated(self._found.starts, zone)]

    def ends(self) -> list[tuple[float, str]]:
        """Return the places and words of the highest and lowest values."""
        return [(12.0, kwh(self._above))] + ([(self.low, f"-{kwh(self._below)}")] if self._below else [])

    def _steps(self, values: Course, side: int) -> Steps:
        """Return the steps of a line; equal hours make one step."""
        heights = np.rint(GRID * (self.zero - side * values * self._unit)).astype(np.int64)
        ends = np.append(np.flatnonzero(np.diff(heights)), len(heights) - 1)
        return list(zip(heights[ends].tolist(), (ends + 1).tolist(), strict=True))


@lru_cache(maxsize=4)
def _dated(starts: tuple[int, ...], zone: ZoneInfo) -> list[tuple[int, str]]:
    """Return the number of the hour that begins every fifth local day, and the day's words; most bills share them."""
    local = [datetime.fromtimestamp(start, zone) for start in starts]
    return [(n, f"{time:%b} {time.day}") for n, time in enumerate(local) if time.hour == 0 and time.day in _DATED]
