"""Run seeded worlds: ``python -m harness.world --seed 7`` replays one and prints its story.

The faults of a world that fails are cut down to a shortest list with which it still fails, and printed as a test.
"""

import argparse
import sys
from contextlib import nullcontext
from pathlib import Path

from harness.world.campaign import KINDS, Tally, as_test, attempt, keep, pool, run_many, shortest
from harness.world.world import Options


def main() -> int:
    """Run one seed, or many."""
    parser = argparse.ArgumentParser(description=__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--seed", type=int, help="run this world and print its result")
    which.add_argument("--seeds", type=int, nargs=2, metavar=("FIRST", "LAST"), help="run these worlds, on all cores")
    parser.add_argument("--hours", type=float, default=Options.hours, help="virtual hours measured")
    parser.add_argument(
        "--bug",
        choices=sorted({name for _, bugs in KINDS.values() for name in bugs}),
        default="",
        help="plant this bug",
    )
    parser.add_argument("--only", help="faults that happen, by name, with commas between them; empty: none")
    parser.add_argument(
        "--log", type=Path, help="append a line of JSON for each of --seeds: its faults, what was found"
    )
    parser.add_argument("--kind", choices=list(KINDS), default=Options.kind, help="what the worlds are about")
    parser.add_argument("--no-keep", action="store_true", help="don't add failing seeds to tests/world/seeds.txt")
    given = parser.parse_args()
    only = None if given.only is None else tuple(filter(None, given.only.split(",")))
    options = Options(hours=given.hours, bug=given.bug, kind=given.kind, only=only)
    if given.seed is not None:
        tally = Tally(1)
        result = attempt(given.seed, options)
        tally.add(result)
        print(tally.line() if tally.failed else result)
    else:
        with pool() as executor, given.log.open("a") if given.log else nullcontext() as log:
            tally = run_many(executor, range(given.seeds[0], given.seeds[1] + 1), options, log)
    for violation in tally.failed if only is None else ():
        least, tries = shortest(violation, options)
        print(f"{len(violation.struck)} faults, {len(least.struck)} of them needed, by {tries} worlds:\n\n{least}\n")
        print(as_test(least, options))
    if not (given.bug or given.kind != Options.kind or given.no_keep):
        for violation in tally.failed:
            keep(violation)
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())
