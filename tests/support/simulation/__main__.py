"""Run seeded worlds: ``python -m tests.support.simulation --seed 7`` replays one and prints its story."""

import argparse
import sys
from time import perf_counter

from tests.support.simulation.planted import BUGS, Bug
from tests.support.simulation.story import Violation
from tests.support.simulation.world import Options, simulate


def main() -> int:
    """Run one seed, or many."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, help="run this world and print what happened")
    parser.add_argument("--seeds", type=int, nargs=2, metavar=("FIRST", "LAST"), help="run all of these")
    parser.add_argument("--hours", type=float, default=Options.hours, help="virtual hours measured")
    parser.add_argument("--bug", choices=sorted(BUGS), help="plant this bug")
    given = parser.parse_args()
    bug = BUGS[given.bug] if given.bug else Bug()
    options = Options(hours=given.hours, unsynced=bug.unsynced)
    first, last = given.seeds or (given.seed or 0, given.seed or 0)
    failed, begin = 0, perf_counter()
    readings = messages = crashes = 0
    for seed in range(first, last + 1):
        try:
            with bug.plant():
                run = simulate(seed, options)
        except Violation as violation:
            failed += 1
            print(violation, flush=True)
            continue
        readings, messages = readings + run.readings, messages + run.messages
        crashes += run.counts.get("crashes", 0)
        if given.seed is not None:
            print(run)
    took_s = perf_counter() - begin
    number = last - first + 1
    print(
        f"{number} worlds in {took_s:.1f} s ({number / took_s:.2f}/s), {failed} failed: {readings:,} readings, "
        f"{messages:,} messages, {crashes:,} crashes"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
