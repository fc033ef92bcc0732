"""Compare what goes short under a policy with the least that perfect knowledge allows, for scenarios of a whole town.

``python -m harness.perfect storm storm-hard`` prints the figures of docs/scenarios.md.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np

from commonwatt.energy.simulation.figures import KINDS, Figures
from commonwatt.town.conditions import Conditions
from commonwatt.town.loading import WHOLE_TOWN, load_town
from commonwatt.town.scenario import Outage, Shortage, load
from harness.perfect.homes_program import Rules
from harness.perfect.least import between, least_unserved
from harness.perfect.program import Answer
from harness.perfect.recorded import World, record
from scenarios.report import MWH
from utility.supply.simulated.policies import POLICIES

_OTHERS = ("apartment", "residential")

NOTHING = dict.fromkeys(KINDS, 0.0)  # the bound of a scenario in which perfect knowledge serves everybody


def is_near(figures: Figures, least: Mapping[str, float]) -> bool:
    """Return whether a run is as good as the goal says.

    Emergency services are served wherever the bound serves them; others' unserved energy is within 5 % of the bound's
    and a thousandth of their demand, without what was reduced by command.
    """
    unserved = {kind: figures.kinds[kind].unserved.total() for kind in KINDS}
    demand = sum(
        figures.kinds[kind].wanted + figures.kinds[kind].cold - figures.kinds[kind].reduced for kind in _OTHERS
    )
    bound = sum(least[kind] for kind in _OTHERS)
    # The solver's answers are exact to a watt-hour.
    spared = unserved["public"] <= least["public"] + 1000
    return spared and sum(unserved[kind] for kind in _OTHERS) <= 1.05 * bound + 0.001 * demand


def main() -> None:
    """Run the scenarios, and print what goes short beside the bounds."""
    parser = argparse.ArgumentParser(prog="python -m harness.perfect", description=__doc__)
    parser.add_argument("names", nargs="+", metavar="SCENARIO")
    parser.add_argument("--policy", default="spec", choices=sorted(POLICIES))
    parser.add_argument("--town", type=Path, default=WHOLE_TOWN)
    parser.add_argument("--days", type=int)
    given = parser.parse_args()
    town = load_town(given.town)
    for name in given.names:
        conditions = Conditions(scenario=load(name), zone=ZoneInfo(town.table.timezone), seed=town.table.seed)
        world, figures = record(town, conditions, POLICIES[given.policy], days=given.days)
        print(f"{name}, {given.policy}: {figures.inversions} priority inversions", flush=True)
        faults: list[Outage | Shortage] = [*conditions.scenario.outage, *conditions.scenario.supply]
        _compare(world, figures, int(min((each.from_hour for each in faults), default=0)))


def _compare(world: World, figures: Figures, fault: int) -> None:
    """Print the comparisons; ``fault``: the hour of the scenario's first fault."""
    if is_near(figures, NOTHING):
        print(f"  {figures.unserved / MWH:.3f} MWh short: within the goal whatever the bound is", flush=True)
        return
    if first := next((hour for hour, sample in enumerate(figures.samples) if sample.islands), 0):
        print(f"  {_left(world, first)}", flush=True)
    # What comes after the last hour in which anything went short only makes the program larger.
    last = max(hour for hour, sample in enumerate(figures.samples) if sample.unserved) + 1
    # A program with each place's battery over the days before the first fault is large, and bounds nothing more.
    for hour, rules in ([(0, Rules.POOLED)] if fault else []) + [(fault, each) for each in Rules]:
        bound = least_unserved(between(world, hour, last), rules)
        near = "yes" if is_near(figures, bound.unserved) else "no"
        print(f"  all known from hour {hour}; {rules.value}; within the goal: {near}")
        for kind in KINDS:
            of = figures.kinds[kind]
            short, demand = of.unserved.total() / MWH, (of.wanted + of.cold - of.reduced) / MWH
            least = f"at least {bound.unserved[kind] / MWH:.3f}"
            print(f"    {kind}: {short:.3f} MWh of {demand:.1f} (as reduced) short, {least}")
        print(f"    {_size(bound.answer)}", flush=True)


def _left(world: World, first: int) -> str:
    """Return what the batteries of the first islands hold when these begin, and when the first of them ends."""
    islands = world.imports[:, first] == 0
    returned = np.flatnonzero(world.imports[islands, first:].any(axis=0))
    last = first + int(returned[0]) if returned.size else world.load.shape[1] - 1
    begin, end = (world.levels[islands, hour].sum() / MWH for hour in (first, last))
    return f"{islands.sum()} islands for {last - first} h: {begin:.1f} MWh in their batteries before, {end:.1f} after"


def _size(answer: Answer) -> str:
    size = f"{answer.columns:,} columns, {answer.rows:,} rows, {answer.nonzeros:,} nonzeros"
    return f"{size}, solved in {answer.seconds:.1f} s"


if __name__ == "__main__":
    main()
