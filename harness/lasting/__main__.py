"""``python -m harness.lasting``: cuts feeders at random moments, and says how well the hours were projected."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from multiprocessing import Pool

import numpy as np
import typer
from rich.console import Console
from rich.progress import track

from commonwatt.cli.tables import show
from commonwatt.energy.lasting import HORIZON_H, Floats
from commonwatt.energy.lasting_proof import CUTS, HELD_PERCENT, MEDIAN_ERROR_PERCENT, NEAR_H
from harness.lasting.cuts import SCENARIOS, WHICH, Cut, cut

BAND = 75, 85  # how often the band of 80 % shall hold, percent


@dataclass(frozen=True, kw_only=True, eq=False)
class Scores:
    """What was projected of some microgrids, beside what came."""

    projected: Floats  # low, middle, high and least, hours, at most the horizon, (4, n)
    came: Floats  # at most the horizon, (n)

    @property
    def error_percent(self) -> float:
        """The median error of those that were dark within the horizon, as a percentage of the hours, at least one."""
        _, middle, _, _ = self.projected
        ended = self.came < HORIZON_H
        return 100 * float(np.median((np.abs(middle - self.came) / np.maximum(self.came, 1))[ended]))

    @property
    def open(self) -> "Scores":
        """Those of which it was not sure that they last longer than the horizon."""
        some = (self.projected[0] < HORIZON_H) | (self.came < HORIZON_H)
        return Scores(projected=self.projected[:, some], came=self.came[some])

    @property
    def held_percent(self) -> float:
        """How often the band held."""
        low, _, high, _ = self.projected
        return 100 * float(((low - NEAR_H <= self.came) & (self.came <= high + NEAR_H)).mean())

    @property
    def worse(self) -> int:
        """How often less came than the least that was told."""
        return int((self.came < self.projected[3] - NEAR_H).sum())


def scores(cuts: Iterable[Cut], which: Iterable[str]) -> Scores:
    """Return the scores of cuts."""
    projected, came = [], []
    for one in cuts:
        for name in which:
            hours = getattr(one.projected, name)
            projected.append(np.array([hours.low, hours.middle, hours.high, hours.least]))
            came.append(one.came[name])
    top = float(HORIZON_H)
    return Scores(
        projected=np.minimum(np.concatenate(projected, axis=1), top), came=np.minimum(np.concatenate(came), top)
    )


def main(
    cuts: int = typer.Option(200, min=6, help="How many moments."),
    by_class: bool = typer.Option(False, help="Know the shape of the class's day alone, as the utility does."),
) -> None:
    """Cut feeders at random moments of the year; end with 1 if the projection is not as good as the pages say."""
    with Pool(2) as pool:
        work = pool.imap(partial(cut, by_class=by_class), range(cuts))
        found = [one for some in track(work, "cuts", cuts, console=Console(stderr=True)) for one in some]
    rows = []
    for scenario in ("all", *dict.fromkeys(SCENARIOS)):
        ours = [one for one in found if scenario in ("all", one.scenario)]
        for which in (*WHICH, "together"):
            all_ = scores(ours, WHICH if which == "together" else (which,))
            told = {"scenario": scenario, "until dark": which, "of microgrids": len(all_.came)}
            told |= {"open": len(all_.open.came), "median error %": f"{all_.error_percent:.1f}"}
            rows.append(told | {"band held %": f"{all_.open.held_percent:.1f}", "worse than the least": all_.worse})
    show("projected and what came", rows, tuple(rows[0]))
    of_all = scores(found, WHICH)
    if of_all.error_percent > MEDIAN_ERROR_PERCENT or of_all.worse:
        sys.exit(f"the pages say an error of at most {MEDIAN_ERROR_PERCENT} %, and never less than the least")
    if cuts >= CUTS and not by_class and abs(of_all.open.held_percent - HELD_PERCENT) > 3:
        sys.exit(f"the pages say that the band held {HELD_PERCENT} % of the time")
    if not BAND[0] <= of_all.open.held_percent <= BAND[1]:
        sys.exit(f"the band of 80 % shall hold {BAND[0]} to {BAND[1]} % of the time")


if __name__ == "__main__":
    typer.run(main)
