"""Plots for a person who judges an estimate or a quarantined reading."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.records import RecordType
from commonwatt.model.units import EpochSeconds
from utility.webkit.console.plots import plotted, single, thinned

Line = tuple[NDArray[np.int64], NDArray[np.bool_]]  # the value of each step, milliwatt-hours, and where there is one


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
