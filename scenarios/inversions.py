"""Counts priority inversions: a lower class served from where a higher one goes short (U5, P5).

All microgrids that are on the grid are one side of the plant; each island is a side of its own. Classes are those of
rationing. Every microgrid of a town file has places of one class, so an island can't have an inversion; one with
places of several classes would need a count of places.
"""

from collections.abc import Sequence

import numpy as np

from meter_sim.physics.boundary import Cause
from meter_sim.physics.places import Places
from meter_sim.physics.town import PRIORITY, MicrogridsStep


def inversions(blocks: Sequence[Places], steps: Sequence[MicrogridsStep]) -> int:
    """Return how many microgrids took energy from the town while a higher class lacked it there, in one step.

    A microgrid lacks the town's energy if the town was short, or rationed it; not if its own feeder was the limit, for
    then nobody's restraint would help.
    """
    count, higher_short = 0, False
    for kind in PRIORITY:
        members = [step.exchange for places, step in zip(blocks, steps, strict=True) if places.kind == kind]
        if higher_short:
            count += sum(int((one.imported > 0).sum()) for one in members)
        # A place that is off in turn lacks the town's energy if its microgrid is not an island.
        off = [one.short[Cause.PLACE] * (one.imported > 0) for one in members]
        higher_short |= any(one.short[[Cause.TOWN, Cause.LIMIT]].any() for one in members) or any(map(np.any, off))
    return count
