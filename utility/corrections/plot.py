"""Plots for a person who judges an estimate or a quarantined reading: in a line of text, or for a page."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.records import RecordType
from commonwatt.model.units import EpochSeconds
from utility.webkit.console.plots import plotted, single, thinned

MAX_COLUMNS = 96  # most columns; of a longer time each column is several quarter-hours

_BARS = "▁▂▃▄▅▆▇█"
_MISSING = "·"

Line = tuple[NDArray[np.int64], NDArray[np.bool_]]  # the value of each step, milliwatt-hours, and where there is one


def plot(lines: Mapping[str, Line]) -> list[str]:
    """Return a line for each of some series of the same quarters, on one scale, and the scale.

    The bars are the mean energy of a column's known quarter-hours; a column without any is a dot.
    """
    quarters = max((len(values) for values, _ in lines.values()), default=0)
    width = -(-quarters // MAX_COLUMNS) if quarters else 1
    means = {name: _columns(line, width) for name, line in lines.items()}
    highest = max((value for each in means.values() for value in each if value is not None), default=0)
    wide = max(map(len, lines), default=0)
    drawn = [f"{name:<{wide}}  {''.join(_bar(value, highest) for value in each)}" for name, each in means.items()]
    return [*drawn, f"{'':<{wide}}  a column is {15 * width} min; {_BARS[-1]} is {highest / 1e6:.3f} kWh in 15 min"]


def _columns(line: Line, width: int) -> Sequence[float | None]:
    values, known = line
    found: list[float | None] = []
    for start in range(0, len(values), width):
        there = known[start : start + width]
        of = values[start : start + width][there]
        found.append(float(of.mean()) if len(of) else None)
    return found


def _bar(value: float | None, highest: float) -> str:
    if value is None:
        return _MISSING
    return _BARS[min(len(_BARS) - 1, int(max(0.0, value) / highest * len(_BARS)))] if highest > 0 else _BARS[0]


def figure(lines: Mapping[str, Line], start: EpochSeconds, step_s: int, record_type: int) -> dict[str, Any]:
    """Return a plot of some lines over the same steps: mean power in kW for energies, kWh for a level."""
    is_flow = RecordType(record_type).is_flow
    unit, scale = ("kW", 3.6e-3 / step_s) if is_flow else ("kWh", 1e-6)
    return {
        "series": [
            {"label": name, "unit": unit, **plotted(thinned(single(start, step_s, *line)), scale, {})}
            for name, line in lines.items()
        ]
    }
