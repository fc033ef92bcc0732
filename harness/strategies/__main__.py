"""Compare the strategies of sharing with a plain reference on random microgrids, and check their properties."""

import argparse
import sys

import numpy as np

from gateway.control.strategies import STRATEGIES
from gateway.control.strategies.batteries import Batteries
from harness.strategies.microgrids import mismatches, plain, random_batteries
from harness.strategies.properties import PROPERTIES, table

AT_ONCE = 5_000


def main() -> int:
    """Check many microgrids; stop at the first that is wrong."""
    parser = argparse.ArgumentParser(prog="python -m harness.strategies", description=__doc__)
    parser.add_argument("--microgrids", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    for first in range(0, given.microgrids, AT_ONCE):
        batch = (given.seed, first)
        batteries = random_batteries(np.random.default_rng(batch), min(AT_ONCE, given.microgrids - first))
        microgrids = plain(batteries)
        wrong = {name: found for name in PROPERTIES if (found := mismatches(name, batteries, microgrids))}
        wrong |= failures(batteries)
        if wrong:
            print(f"batch {batch}: {wrong}")
            return 1
    print(
        f"{given.microgrids:,} microgrids, {len(PROPERTIES)} strategies, {len(list(table()))} properties: 0 mismatches"
    )
    return 0


def failures(batteries: Batteries) -> dict[str, int]:
    """Return in how many microgrids a property does not hold, by strategy and property; without those that hold."""
    found = {}
    plans = {name: STRATEGIES[name](batteries) for name in PROPERTIES}
    for strategy, name, judge in table():
        if wrong := int((~judge(batteries, plans[strategy])).sum()):
            found[f"{strategy}: {name}"] = wrong
    return found


if __name__ == "__main__":
    sys.exit(main())
