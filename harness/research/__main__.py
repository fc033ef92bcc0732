"""Write the figures of docs/research.md: ``python -m harness.research``; minutes of one core for the whole town."""

import argparse
import re
from collections.abc import Sequence
from zoneinfo import ZoneInfo

import numpy as np

from harness.docs.marked import DOCS
from harness.research.compared import compare
from harness.research.town import emulated_homes, emulated_town, varied
from utility.research.attacks.aggregates import attacks_on
from utility.research.attacks.half_hours import find_by_half_hours
from utility.research.attacks.success import Success
from utility.research.coarsening import Coarsening, coarsened
from utility.research.figures import Errors, errors_of_open
from utility.research.groups import Group, grouped, sums_of
from utility.research.homes import HALF_HOUR_S, Homes, Measure
from utility.research.secret import random_of

SECRET = b"emulated"

PAGE = DOCS / "research.md"

KNOWN_STEPS = (5, 10, 20)  # half-hours in a row that an attacker knows

COARSER = (
    Coarsening(),
    Coarsening(unit_wh=10),
    Coarsening(unit_wh=100),
    Coarsening(step_s=3600, unit_wh=100),
    Coarsening(noise_wh=100),
)
"""The options beside which more known half-hours are measured."""

_PART = re.compile(
    r"(<!-- figures of `python -m harness.research`: (\w+) -->\n).*?(<!-- end of figures -->)", re.DOTALL
)


def open_table(homes: Homes, zone: ZoneInfo) -> str:
    """Return what the open tier gives away, by size of groups and length of steps."""
    rows = []
    truth = homes.in_steps(HALF_HOUR_S)
    for least, step_s in ((15, 900), (15, 3600), (100, 900)):
        some = homes.in_steps(step_s)
        groups = grouped(some, SECRET, least)
        sums = sums_of(some, groups)
        found = attacks_on(truth, sums, zone, random_of(SECRET, "attack", f"{least} {step_s}"))
        rows.append(
            [
                f"at least {least} homes, {'hours' if step_s == 3600 else 'quarter-hours'}",
                f"{len(groups)} of {_sizes(groups)}",
                _percent(float(np.mean(sums.shown[Measure.USED]))),
                *(_over(success) for success in found),
                *_costs(errors_of_open(homes, sums))[:2],
            ]
        )
    head = ["groups", "number and homes", "sums shown", "group, by five half-hours", "group, by all bills"]
    return _table([*head, "use, by bill and group", "load curve", "peak"], rows)


def _sizes(groups: Sequence[Group]) -> str:
    sizes = [len(group.rows) for group in groups]
    return f"{min(sizes)} to {max(sizes)}"


def options_table(homes: Homes, zone: ZoneInfo) -> str:
    """Return what each option of coarsening buys and costs."""
    rows = [
        [one.option.words, *(f"{_percent(attack.rate)}" for attack in one.attacks), *_costs(one.errors)]
        for one in compare(homes, zone, SECRET)
    ]
    head = ["readings", "found by five half-hours", "found by all bills", "load curve", "peak", "peak of a home"]
    return _table(head, rows)


def known_table(homes: Homes) -> str:
    """Return how often more known half-hours find a home, by option of coarsening."""
    truth = homes.in_steps(HALF_HOUR_S)
    rows = []
    for known in KNOWN_STEPS:
        row = [str(known)]
        for option in COARSER:
            # As in the table of options, so that its figures for five half-hours are these.
            random = random_of(SECRET, "compare", option.words)
            released = coarsened(homes, option, random)
            published = released.in_steps(max(HALF_HOUR_S, released.step_s))
            row.append(_percent(find_by_half_hours(truth, published, option, random, known_steps=known).rate))
        rows.append(row)
    return _table(["known half-hours", *(option.words for option in COARSER)], rows)


def _costs(errors: Errors) -> list[str]:
    parts = (errors.curve, errors.peak, errors.home_peak)
    return [f"{100 * part:.1f} %" for part in parts if part is not None]


def _over(success: Success) -> str:
    return f"{100 * success.rate:.1f} % ({100 * success.guess:.1f} % by guessing)"


def _percent(part: float) -> str:
    return f"{100 * part:.1f} %"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Write the tables into the page, or print them."""
    parser = argparse.ArgumentParser(prog="python -m harness.research", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--houses", type=int, default=8000)
    parser.add_argument("--apartments", type=int, default=300)
    parser.add_argument("--days", type=int, default=7)
    parser.add_argument("--print", action="store_true", help="print the tables, write nothing")
    asked = parser.parse_args()
    town = emulated_town(asked.houses, asked.apartments)
    homes, zone = emulated_homes(town, asked.days), ZoneInfo(town.table.timezone)
    sizes = varied(homes)
    made = {
        "open": open_table(homes, zone),
        "open_varied": open_table(sizes, zone),
        "options": options_table(homes, zone),
        "options_varied": options_table(sizes, zone),
        "known": known_table(homes),
        "known_varied": known_table(sizes),
    }
    if asked.print:
        print("\n\n".join(made.values()))
        return
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(_PART.sub(lambda part: f"{part[1]}\n{made[part[2]]}\n\n{part[3]}", page), encoding="utf-8")


if __name__ == "__main__":
    main()
