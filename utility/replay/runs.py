"""A stored day again: what each place exchanged, gave, received and went without (pure)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from commonwatt.energy.simulation.simulation import Simulation
from commonwatt.settlement.conventions import Members, pro_rata
from commonwatt.settlement.settled import QUARTERS_A_DAY
from commonwatt.settlement.splits import Array
from utility.registry.layout import Day
from utility.replay.world import DAY_S, STEP_S


@dataclass(frozen=True, kw_only=True, eq=False)
class DayRun:
    """A replayed day of places."""

    energies: Array  # by ``Quantity``, milliwatt-hours, (4, places, 96)
    sums: Array  # given by sharing, received by sharing, milliwatt-hours; seconds without half of the load, (3, places)


def run_day(simulation: Simulation, rows: list[NDArray[np.intp]], day: Day) -> DayRun:
    """Run a day; ``rows``: of each layout, the rows of its places, (M, P)."""
    places = sum(each.size for each in rows)
    energies, sums = np.zeros((4, places, QUARTERS_A_DAY), np.int64), np.zeros((3, places), np.int64)
    for time in range(day * DAY_S, (day + 1) * DAY_S, STEP_S):
        quarter = time % DAY_S * QUARTERS_A_DAY // DAY_S
        for at, step in zip(rows, simulation.step(time), strict=True):
            flows = step.flows
            taken, sent = flows.demand + flows.received, flows.surplus + flows.pushed + flows.given
            inside = pro_rata(Members(sent=sent, taken=taken))
            energies[:, at, quarter] += (
                *(taken - inside.shared_in, inside.shared_in),
                *(sent - inside.shared_out, inside.shared_out),
            )
            is_dark = 2 * flows.unserved > flows.served + flows.unserved
            sums[:, at] += flows.given, flows.received - flows.absorbed, STEP_S * is_dark
    return DayRun(energies=energies, sums=sums)


def differs_permille(run: DayRun, settled: Array, owner: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return by how many thousandths each microgrid's import and export differ from the settled ones.

    Args:
        settled: What each imported and exported, (2, microgrids).
        owner: The microgrid of each place.
    """
    replayed = [np.bincount(owner, run.energies[quantity].sum(axis=1), settled.shape[1]) for quantity in (0, 2)]
    off, whole = np.abs(replayed - settled).sum(axis=0), settled.sum(axis=0)
    return np.asarray(np.divide(1000 * off, whole, out=np.where(off > 0, 1000.0, 0.0), where=whole > 0))
