"""The monthly LTE traffic of a controller's line, in each direction, and what each step of economy saves.

Microgrids of real processes at real speed, in a network namespace of their own with LTE's packet size (1,400
bytes); every packet is counted. ``python -m benchmarks.lte`` only prints the table.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import ceil
from typing import Any

from benchmarks.lte_lines import (
    COMINGS_A_DAY,
    KINDS,
    PLACES,
    PLAN,
    STEPS,
    Line,
    place_of,
    weigh_alone,
)
from commonwatt.model.units import SLOT_S
from harness.docs.measured import Goal, Section, Table
from harness.network.loopback import run_alone

SETTLE_S = 150  # real seconds until the messages of a start are over: a gateway requests all states within a minute
COUNTED_S = 900  # real seconds that are counted: a whole period of the longest puts and of relaying by quarter-hours
START_S = 1_500.0  # real seconds that starting and stopping may take
GOAL_GB, LARGE_GOAL_GB = 0.75, 1.2  # C9: each way, of 21 meters a line, and of 32

PLAN_GB, PLAN_DOLLARS = 2.0, 10  # T9: a line's plan, each way
APARTMENT_METERS, USERS = 303, 8_303
TOWN_DOLLARS = 17_109 * PLAN_DOLLARS  # of 16,307 meters and 802 controllers, one line each
SALARY_DOLLARS = 200_000 - 171_060  # what RAnGeRS' month costs besides its lines
INSTALLED = 6  # the step as which a controller is installed, without a schedule


def measure(places: Sequence[str], seconds: float, settle_s: float = SETTLE_S) -> list[Line]:
    """Return each line, counted for ``seconds`` real seconds."""
    arguments = ["--alone", ",".join(places), "--seconds", str(seconds), "--settle", str(settle_s)]
    done = run_alone("benchmarks.lte", arguments, seconds + settle_s + START_S)
    return [Line(**{key: _pair(value) for key, value in row.items()}) for row in json.loads(done)]


def _pair(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def bench(*, smoke: bool = False) -> Section:
    """Count the lines for a quarter-hour."""
    lines = measure([place_of("spread", 6)], 1, 0) if smoke else measure(list(PLACES), COUNTED_S)
    return section(lines)


def section(lines: Sequence[Line]) -> Section:
    """Return what was measured, the steps that were needed, and the advice for the apartments."""
    found = {line.place: line for line in lines}
    goals = [
        goal(found, kind, at_most)
        for kind, at_most in (("homes", GOAL_GB), ("spread", GOAL_GB), ("large", LARGE_GOAL_GB))
    ]
    return Section(
        title="What a controller's LTE line carries",
        about="Real processes at real speed, in a network namespace of their own with LTE's packets of 1,400 bytes; "
        "TLS on all connections, with tokens; each packet is counted for a quarter-hour of normal operation, in which "
        "one battery of each microgrid is low. A month is 30 * (counted bytes / seconds * 86,400 + sessions * "
        f"{COMINGS_A_DAY} * bytes of one session's beginning), since each meter reconnects so often a day. All in: the "
        "controllers form cliques, so beats and the silent sessions of the clique's meters are counted. Not included: "
        "outages, requests for missing readings, commands of the utility, and the boundary's two meters, which are at "
        "the controller itself.",
        tables=(steps_table(found), advice_table(found)),
        goals=tuple(one for one in goals if one is not None),
    )


def steps_table(found: Mapping[str, Line]) -> Table:
    """Return each step with its bytes, and how much later readings come."""
    rows = []
    for number, step in enumerate(STEPS):
        measured = [found.get(place_of(kind, number)) for kind in ("homes", "spread")]
        cells = [("", "") if line is None else tuple(f"{gb:.3f}" for gb in line.month()) for line in measured]
        added = f"+{step.age_s - STEPS[0].age_s} s"
        rows.append((step.name, *(cell for pair in cells for cell in pair), added))
    return Table(
        title="GB (10^9 bytes, with all headers) a month of 30 days, each step on top of those above it",
        columns=(
            "step",
            "residential, up",
            "down",
            "21 apartments, up",
            "down",
            "age of a reading at the utility, at most",
        ),
        rows=tuple(rows),
    )


def advice_table(found: Mapping[str, Line]) -> Table:
    """Return the ways to connect the apartments' meters, with their price."""
    ways = [
        ("one line, a larger plan", "apartments", INSTALLED, 1),
        ("one line, lossless", "apartments", INSTALLED + 2, 1),
        ("one line, lossless, puts every 300 s", "apartments", INSTALLED + 4, 1),
        ("15 lines of 21 meters", "spread", INSTALLED, 15),
        ("15 lines, lossless", "spread", INSTALLED + 2, 15),
        ("15 lines, lossless, puts every 300 s", "spread", INSTALLED + 4, 15),
    ]
    return Table(
        title="Ways to connect the apartments' 303 meters",
        columns=(
            "way",
            "GB a line, fuller direction",
            "plans of 2 GB",
            "cents a meter and month",
            "age of a reading, at most",
            "the town a month",
            "a user",
        ),
        rows=tuple(
            advice(name, found[place_of(kind, step)], count)
            for name, kind, step, count in ways
            if place_of(kind, step) in found
        ),
    )


def advice(name: str, line: Line, count: int) -> tuple[str, ...]:
    """Return one way: ``count`` lines such as this one."""
    fuller = max(line.month())
    plans = count * ceil(fuller / PLAN_GB)
    # One line of the apartments is in the town's sum already.
    town = TOWN_DOLLARS + (plans - 1) * PLAN_DOLLARS
    return (
        name,
        f"{fuller:.3f}",
        f"{count} * {plans // count} = {plans}",
        f"{plans} * $10 / 303 = {100 * plans * PLAN_DOLLARS / APARTMENT_METERS:.1f}",
        f"{SLOT_S + line.step.age_s} s",
        f"$171,090 + {plans - 1} * $10 = ${town:,}",
        f"(${town:,} + $28,940) / 8,303 = ${(town + SALARY_DOLLARS) / USERS:.2f}",
    )


def goal(found: Mapping[str, Line], kind: str, at_most: float) -> Goal | None:
    """Return the goal of a kind of line, at the first step that reaches it, from the installed one on."""
    steps = [step for step in PLAN[kind] if step >= INSTALLED and place_of(kind, step) in found]
    if not steps:
        return None
    fuller = {step: max(found[place_of(kind, step)].month()) for step in steps}
    needed = next((step for step in steps if fuller[step] <= at_most), steps[-1])
    how = "as installed" if needed == INSTALLED else f"with all steps to: {STEPS[needed].name}"
    return Goal(
        what=f"{KINDS[kind][0]}, the fuller direction, {how}",
        value=fuller[needed],
        unit="GB a month",
        at_most=at_most,
        limited_by="Each put has a packet, an acknowledgement and their heads.",
    )


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=COUNTED_S, help="how long is weighed, whole quarter-hours")
    parser.add_argument("--settle", type=float, default=SETTLE_S, help="how long before that is not")
    parser.add_argument("--places", default=",".join(PLACES), help="the lines")
    parser.add_argument("--alone", metavar="PLACES", help="the lines; the process has a network namespace already")
    arguments = parser.parse_args()
    if arguments.alone:
        lines = weigh_alone(arguments.alone.split(","), arguments.seconds, arguments.settle)
        print(json.dumps([asdict(line) for line in lines]))
    else:
        for line in measure(arguments.places.split(","), arguments.seconds, arguments.settle):
            up, down = line.month()
            print(f"{line.place} {line.step.name}: {up:.3f} up, {down:.3f} down; {line}")


if __name__ == "__main__":
    main()
