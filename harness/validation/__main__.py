"""Prints the figures of docs/billing.md: ``python -m harness.validation``. Takes half a minute."""

from collections.abc import Sequence

import numpy as np

from commonwatt.settlement.validation.day import Limits
from harness.validation.accuracy import Case, error_of
from harness.validation.false_alarms import days, found_in, planted
from harness.validation.readings import BEFORE_DAYS, Grid, later, measured, small_town

GAPS = {"15 min": 1, "1 h 45": 7, "2 h": 8, "1 day": 96, "3 days": 288}  # lengths of planted gaps, quarter-hours
# How many places have no readings, and whether the boundary has.
KINDS = {"one place": (1, True), "one place, no boundary": (1, False), "three places": (3, True)}
LAST_DAYS = {"normal": 7, "heatwave": 7, "storm": 3}  # days judged at the end of each scenario: its own
CASES = 24  # planted gaps for each figure

STRICT = Limits(high_percent=250, low_percent=50, spike_percent=300)


def main() -> None:
    """Run the scenarios, and print a table of false alarms, one of planted faults, and one of errors."""
    town = small_town()
    worlds = {name: measured(town, later(name)) for name in LAST_DAYS}
    for name, grids in worlds.items():
        for words, limits in (("defaults", Limits()), ("strict", STRICT)):
            counts, judged = found_in(grids, limits, LAST_DAYS[name])
            found = ", ".join(f"{check} {count}" for check, count in counts.items()) or "none"
            print(f"false alarms, {name}, {words}: {found}, of {judged} days of a meter")
    _print_planted(worlds["normal"])
    for name, grids in worlds.items():
        for words, some in (("houses", grids[:8]), ("apartments", grids[8:9])):
            for length, quarters in GAPS.items():
                print(f"| {name} | {words} | {length} | {' | '.join(_errors(some, quarters, name))} |", flush=True)


def _print_planted(grids: Sequence[Grid]) -> None:
    kinds = {
        "high": lambda e: e * 6,
        "low": lambda e: e // 8,
        "zero": lambda e: e * 0,
        "spike": lambda e: np.where(np.arange(96) == 70, int(e.mean()) * 30, e),
    }
    for name, change in kinds.items():
        hits = total = 0
        for grid in grids:
            day = list(days(grid, Limits()))[-1]
            for row in range(len(day.meter)):
                hits += name in {str(one.check) for one in planted(day, row, change, Limits())}
                total += 1
        print(f"planted {name}: {hits} of {total} found")


def _errors(grids: Sequence[Grid], quarters: int, name: str) -> list[str]:
    """Return the error of the energy over the gap and of its quarter-hours, percent of the energy, by kind."""
    found = []
    for places, has_boundary in KINDS.values():
        rng = np.random.default_rng(5)
        errors = []
        for number in range(CASES):
            grid = grids[number % len(grids)]
            last = grid.incoming.shape[1] - quarters - 2
            first = max(96 * (BEFORE_DAYS - 4), last - 96 * LAST_DAYS[name])
            gone = rng.choice(np.flatnonzero(grid.uses), places, replace=False).tolist()
            start = int(rng.integers(first, last))
            errors.append(
                error_of(Case(grid=grid, places=gone, start=start, quarters=quarters, has_boundary=has_boundary))
            )
        total = max(1, sum(error.total for error in errors))
        of_sum, of_quarters = (100 * sum(getattr(e, f) for e in errors) / total for f in ("of_sum", "of_quarters"))
        found.append(f"{of_sum:.0f} ({of_quarters:.0f}) %")
    return found


if __name__ == "__main__":
    main()
