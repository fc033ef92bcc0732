"""Compare the strategies of sharing with a plain reference on random microgrids, and check their properties.

Prints a table of each property of each strategy, with the microgrids in which it does not hold.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator

import numpy as np

from commonwatt.energy.strategies import STRATEGIES, Batteries
from harness.strategies.hours import MAX_SWITCHES, Hours, watch
from harness.strategies.properties import PROPERTIES, table
from harness.strategies.reference import mismatches, plain, random_batteries

AT_ONCE = 5_000

WATCHED = 10_000  # most microgrids that are watched for hours

REFERENCE = "plans as the plain reference"

Failures = Counter[tuple[str, str]]  # microgrids in which a property does not hold, by strategy and property


def main() -> int:
    """Check many microgrids, and print the table; stop at the first batch with a fault."""
    parser = argparse.ArgumentParser(prog="python -m harness.strategies", description=__doc__)
    parser.add_argument("--microgrids", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    hours: dict[str, Hours] = {}
    for first in range(0, given.microgrids, AT_ONCE):
        batch, rows = (given.seed, first), min(AT_ONCE, given.microgrids - first)
        wrong = failures(random_batteries(np.random.default_rng(batch), rows))
        if first < WATCHED:
            for name in PROPERTIES:
                seen = watch(name, batch, rows)
                hours[name] = hours[name] + seen if name in hours else seen
        if found := +(wrong + failures_of_hours(hours)):
            print(f"batch {batch}: {found}")
            return 1
    print(f"{given.microgrids:,} microgrids, of these {min(given.microgrids, WATCHED):,} for two hours: 0 faults\n")
    head = ["property", *PROPERTIES]
    for row in (head, ["---"] * len(head), *rows_of(hours)):
        print(f"| {' | '.join(row)} |")
    return 0


def failures(batteries: Batteries) -> Failures:
    """Return in how many microgrids a property does not hold."""
    microgrids = plain(batteries)
    plans = {name: STRATEGIES[name](batteries) for name in PROPERTIES}
    found = Failures({(name, REFERENCE): mismatches(name, batteries, microgrids) for name in PROPERTIES})
    for strategy, name, judge in table():
        found[strategy, name] = int((~judge(batteries, plans[strategy])).sum())
    return found


def failures_of_hours(hours: dict[str, Hours]) -> Failures:
    """Return the faults of hours."""
    found = Failures()
    for strategy, seen in hours.items():
        found.update({(strategy, name): getattr(seen, field) for name, field in _OF_HOURS.items()})
    return found


_OF_HOURS = {
    "limits of power, level and service are kept in every slot": "limits",
    "help ends, and leaves no deficit beside a surplus that can be used": "unsettled",
    f"at most {MAX_SWITCHES} switches of a battery in an hour of noise of half a band": "noisy",
}


def rows_of(hours: dict[str, Hours]) -> Iterator[list[str]]:
    """Return the table: the property, and ``holds`` for each strategy that has it."""
    having = {(strategy, name) for strategy, name, _ in table()}
    having |= {(strategy, name) for strategy in PROPERTIES for name in (REFERENCE, *_OF_HOURS)}
    for name in dict.fromkeys([*_OF_HOURS, REFERENCE, *(name for _, name, _ in table())]):
        yield [name, *("holds" if (strategy, name) in having else "-" for strategy in PROPERTIES)]
    figures = {
        "microgrids that were helped in the two hours": "helped",
        "most switches of a battery in the hour of noise": "most",
        "the same in the hour of noise and loads": "most_busy",
        f"batteries with more than {MAX_SWITCHES} switches in that hour": "busy",
    }
    for words, field in figures.items():
        yield [words, *(f"{getattr(hours[strategy], field):,}" for strategy in PROPERTIES)]


if __name__ == "__main__":
    sys.exit(main())
