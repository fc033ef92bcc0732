"""Plots of corrections and quarantined readings, as the script of plots reads them (docs/console.md)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.records import RecordType
from commonwatt.model.units import EpochSeconds
from utility.webkit.console.plots import Series, plotted, thinned

Line = tuple[NDArray[np.int64], NDArray[np.bool_]]  # the value of each step, milliwatt-hours, and where there is one


def figure(lines: Mapping[str, Line], start: EpochSeconds, step_s: int, record_type: int) -> dict[str, Any]:
    """Return a plot of some lines over the same steps: mean power in kW for energies, kWh for a level.

    Args:
        lines: By name.
        start: Start of the first step.
        step_s: Seconds of a step.
        record_type: What is measured.
    """
    is_flow = RecordType(record_type).is_flow
    unit, scale = ("kW", 3.6e-3 / step_s) if is_flow else ("kWh", 1e-6)
    return {
        "series": [
            {"label": name, "unit": unit, **plotted(thinned(_series(line, start, step_s)), scale, {})}
            for name, line in lines.items()
        ]
    }


def _series(line: Line, start: EpochSeconds, step_s: int) -> Series:
    values, there = line
    return Series(
        start=start,
        step_s=step_s,
        low=values,
        high=values,
        quality=there.astype(np.uint8),
        lacking=np.zeros(len(values), np.bool_),
    )
