"""``python -m harness.replay``: how near an unchanged replay comes to what flowed; a table for docs/scenarios.md.

--start DATE  first day, else 2026-01-05
--days N      how many days (default 30)
--every N     one day of so many; the days between are emulated by quarter-hours (default 1: all, one after the other)
"""

import argparse
from datetime import date
from zoneinfo import ZoneInfo

import numpy as np

from commonwatt.demo.layout import BUILT_IN_TOWN
from commonwatt.energy.simulation.simulation import Simulation
from commonwatt.town.conditions import Conditions
from commonwatt.town.loading import load_town
from commonwatt.town.scenario import Scenario
from commonwatt.town.town import Town
from harness.replay.emulated import Day, Emulated
from utility.replay.world import STEP_S, StoredWorld, differs_permille, rows_of, run_day
from utility.supply.simulated.policies import POLICIES


class Replay:
    """An unchanged replay of emulated days."""

    def __init__(self, town: Town, emulated: Emulated) -> None:
        names = [
            (grid, place)
            for one in emulated.blocks
            for grid, of in zip(one.microgrids, one.names, strict=True)
            for place in of
        ]
        self._rows = rows_of(emulated.blocks, {place: row for row, place in enumerate(names)})
        self.microgrids = list(dict.fromkeys(grid for grid, _ in names))
        self._owner = np.array([self.microgrids.index(grid) for grid, _ in names])
        self._town = town
        self._simulation: Simulation | None = None

    def differs(self, day: Day, *, anew: bool) -> np.ndarray:
        """Return by how many thousandths each microgrid's day differs; ``anew``: from the day's own levels on."""
        self._day = day
        if anew or self._simulation is None:
            plain = Conditions(
                scenario=Scenario(title="as it was", start=date(1970, 1, 2)), zone=ZoneInfo("UTC"), seed=1
            )
            world = lambda blocks: StoredWorld(blocks, self._rows, lambda: self._day.course, day.levels)  # noqa: E731
            self._simulation = Simulation(self._town, plain, POLICIES["spec"], STEP_S, world)
        return differs_permille(run_day(self._simulation, self._rows, day.number)[0], day.passed, self._owner)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--start", type=date.fromisoformat, default=date(2026, 1, 5))
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--every", type=int, default=1)
    given = parser.parse_args()
    town = load_town(BUILT_IN_TOWN)
    emulated = Emulated(town, Scenario(title="emulated", start=given.start, days=3660))
    replay, found = Replay(town, emulated), []
    for day in emulated.days(given.days, given.every):
        found.append(replay.differs(day, anew=given.every > 1) / 10)
        when = np.datetime64("1970-01-01") + day.number
        print(f"{when} {' '.join(f'{each:.2f}' for each in found[-1])}", flush=True)
    print("| microgrid | days | within 1 % | median | worst |\n|---|---|---|---|---|")
    for name, each in zip(replay.microgrids, np.array(found).T, strict=True):
        print(f"| {name} | {len(each)} | {(each <= 1).sum()} | {np.median(each):.2f} % | {each.max():.2f} % |")


if __name__ == "__main__":
    main()
