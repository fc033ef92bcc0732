"""``python -m harness.settlement``: settlement beside the plain implementation, on random microgrid-days."""

import argparse
import sys

from commonwatt.settlement.conventions import CONVENTIONS
from harness.settlement.compare import differences


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="of the first day")
    parser.add_argument("--quarters", type=int, default=96, help="of each day with readings")
    given = parser.parse_args()
    for seed in range(given.seed, given.seed + given.days):
        for convention in CONVENTIONS:
            if wrong := differences(seed, convention, given.quarters):
                sys.exit(f"seed {seed}, {convention}: {len(wrong)} differences, the first: {wrong[0]}")
        if seed % 10 == 9:
            print(f"\r{seed + 1 - given.seed} of {given.days} days", end="", file=sys.stderr, flush=True)
    print(f"\r{given.days} microgrid-days, {len(CONVENTIONS)} conventions: no difference")


if __name__ == "__main__":
    main()
