"""Run seeded worlds: ``python -m harness.simulation --seed 7`` replays one and prints its story."""

import argparse
import sys

from harness.simulation.campaign import Tally, attempt, keep, pool, run_many
from harness.simulation.energy.planted import ENERGY_BUGS
from harness.simulation.planted import BUGS
from harness.simulation.world import Options


def main() -> int:
    """Run one seed, or many."""
    parser = argparse.ArgumentParser(description=__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--seed", type=int, help="run this world and print its result")
    which.add_argument("--seeds", type=int, nargs=2, metavar=("FIRST", "LAST"), help="run these worlds, on all cores")
    parser.add_argument("--hours", type=float, default=Options.hours, help="virtual hours measured")
    parser.add_argument("--bug", choices=sorted({**BUGS, **ENERGY_BUGS}), default="", help="plant this bug")
    parser.add_argument("--energy", action="store_true", help="worlds of energy: feeders, islands, sharing, supply")
    parser.add_argument("--no-keep", action="store_true", help="don't add failing seeds to tests/simulation/seeds.txt")
    given = parser.parse_args()
    options = Options(hours=given.hours, bug=given.bug, energy=given.energy)
    if given.seed is not None:
        tally = Tally(1)
        result = attempt(given.seed, options)
        tally.add(result)
        print(tally.line() if tally.failed else result)
    else:
        with pool() as executor:
            tally = run_many(executor, range(given.seeds[0], given.seeds[1] + 1), options)
    if not (given.bug or given.energy or given.no_keep):
        for violation in tally.failed:
            keep(violation)
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())
