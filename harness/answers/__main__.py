"""Write the figures of docs/scenarios.md: ``python -m harness.answers scenario-results``.

The scenarios' results are there after ``make scenarios``; the detail of readings is measured here.
"""

import argparse
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from harness.answers import runs
from harness.answers.detail import detail_table
from harness.docs.marked import DOCS

PAGES = ("scenarios.md",)

SCENARIOS = ("normal", "heatwave", "storm", "storm-hard", "shortage")

COURSES = ("normal", "heatwave", "storm", "storm-hard", "change", "cloudy", "winter")

READINGS = {
    "heat wave, N2: the night's demand +5 %": "heatwave",
    "the night's demand 5 % of an ordinary night's": "heatwave-drop",
    "storm, N3: each phase 12 h": "storm",
    "all phases together 12 h": "storm-12h",
}

_PART = re.compile(r"(<!-- figures of `make scenarios`: ([\w-]+) -->\n).*?(<!-- end of figures -->)", re.DOTALL)


def parts(folder: Path) -> Mapping[str, Callable[[], str]]:
    """Return the function that makes each part of the pages, by its name in the pages."""

    def loaded(*names: str) -> dict[str, runs.Run]:
        return {name: runs.load(folder, name) for name in names}

    return {
        **{name: lambda name=name: runs.policies(runs.load(folder, name)) for name in SCENARIOS},  # type: ignore[misc]
        "readings": lambda: runs.readings({words: runs.load(folder, name) for words, name in READINGS.items()}),
        "courses": lambda: runs.courses(loaded(*COURSES)),
        "minima": lambda: runs.minima(loaded("storm", "storm-12h", "storm-hard")),
        "seasons": lambda: runs.seasons(loaded(*runs.SEASONS)),
        "affected": lambda: runs.affected(loaded("storm", "storm-hard", "shortage", "winter")),
        "detail": detail_table,
    }


def filled(page: str, made: Mapping[str, Callable[[], str]]) -> str:
    """Return a page with its marked parts made anew."""
    return _PART.sub(lambda part: f"{part[1]}\n{made[part[2]]()}\n\n{part[3]}", page)


def names_in(page: str) -> list[str]:
    """Return the names of a page's marked parts."""
    return [part[2] for part in _PART.finditer(page)]


def main() -> None:
    """Write the pages."""
    parser = argparse.ArgumentParser(prog="python -m harness.answers", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="results of make scenarios")
    made = parts(parser.parse_args().folder)
    for name in PAGES:
        page = DOCS / name
        page.write_text(filled(page.read_text(encoding="utf-8"), made), encoding="utf-8")
        print(f"docs/{name}")


if __name__ == "__main__":
    main()
