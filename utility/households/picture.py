"""A home's energy as pictures: where its use comes from, now and by quarter-hour, day or month (pure)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from commonwatt.look.palette import LOOKS, FlowLook, PowerFlow
from commonwatt.model.units import QUARTER_S, EpochSeconds
from utility.households.course import Course
from utility.webkit.console.plots import line

HOME_LOOKS: Mapping[PowerFlow, FlowLook] = {
    **LOOKS,
    PowerFlow.BATTERY: replace(LOOKS[PowerFlow.BATTERY], words="your battery"),
    PowerFlow.PLANT: replace(LOOKS[PowerFlow.PLANT], words="town and neighbours"),
    PowerFlow.USE: replace(LOOKS[PowerFlow.USE], words="your home"),
}
"""The flows as a household knows them: readings do not tell the town's energy from neighbours', settlement does."""

_WATTS = 3600 / QUARTER_S / 1000
_KILOWATTS = _WATTS / 1000


@dataclass(frozen=True, kw_only=True)
class HomeNow:
    """The newest quarter-hour of a home that is known whole."""

    start: EpochSeconds  # when it began
    use_w: float  # mean power that it used
    parts: Sequence[tuple[PowerFlow, float, bool]]  # the other flows: watts, and whether they go to the home
    own_permille: float | None  # how much of the day's use was not taken, but its own; ``None``: none was used


def home_now(course: Course) -> HomeNow | None:
    """Return the newest whole quarter-hour of a day; ``None``: none is whole, or the home has no sun and no battery."""
    use = course.use
    whole = np.flatnonzero(use.is_whole)
    if not len(whole):
        return None
    at = int(whole[-1])
    # A battery whose level jumps makes a use below 0, which has no source.
    used = float(np.maximum(0, use.energy[whole]).sum())
    own = max(0, used - float(course.taken.energy[whole].sum()))
    net, gained = int(course.taken.energy[at] - course.given.energy[at]), int(course.gained.energy[at])
    flows = [(PowerFlow.PLANT, net)]
    if course.solar.expected.any():
        flows.append((PowerFlow.SUN, int(course.solar.energy[at])))
    if course.gained.expected.any():
        flows.append((PowerFlow.BATTERY, -gained))
    return HomeNow(
        start=(course.first + at) * QUARTER_S,
        use_w=int(use.energy[at]) * _WATTS,
        parts=[(flow, abs(energy) * _WATTS, energy >= 0) for flow, energy in flows],
        own_permille=1000 * own / used if used > 0 else None,
    )


def by_source(course: Course) -> dict[PowerFlow, Any]:
    """Return where the use of each quarter-hour came from, milliwatt-hours: sun, battery, then others."""
    used = np.maximum(0, course.use.energy)
    sun = np.minimum(used, course.solar.energy)
    battery = np.minimum(used - sun, np.maximum(0, -course.gained.energy))
    return {PowerFlow.SUN: sun, PowerFlow.BATTERY: battery, PowerFlow.PLANT: used - sun - battery}


def day_series(course: Course) -> list[dict[str, Any]]:
    """Return a day's use by source, kW by quarter-hour; a quarter-hour that lacks a reading is a gap."""
    use = course.use
    if not use.expected.any():
        return []
    starts = [(course.first + n) * QUARTER_S for n in range(len(use.energy))]
    rows = {flow: [round(v * _KILOWATTS, 4) if w else None for v, w in zip(energy.tolist(), use.is_whole, strict=True)]
            for flow, energy in by_source(course).items()}  # fmt: skip
    return stacked(rows, starts, QUARTER_S, "kW")


def stacked(
    rows: Mapping[PowerFlow, Sequence[float | None]], starts: Sequence[EpochSeconds], step_s: int, unit: str
) -> list[dict[str, Any]]:
    """Return series that lie one upon the other in a plot; those of nothing are left out."""
    return [
        line(
            "the town" if PowerFlow.NEIGHBOURS in rows and flow is PowerFlow.PLANT else HOME_LOOKS[flow].words,
            unit,
            list(starts),
            step_s,
            list(high),
        )
        | {"flow": flow, "missing": 0}
        for flow, high in rows.items()
        if any(high) or flow is PowerFlow.PLANT
    ]
