"""What a researcher sees of releases before the download: made rows, an attack's result, how to read a file (pure)."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from math import pi, sin
from typing import Any

from commonwatt.model.time.times import iso, parse_time
from commonwatt.model.units import QUARTER_S
from commonwatt.model.words import counted
from utility.research.coarsening import Coarsening
from utility.research.documents import Column, data_columns, measures_of, name_columns
from utility.research.homes import Measure
from utility.research.release import Tier

Rows = Sequence[Sequence[str]]  # cells of a CSV file, without its heading

_DAY = 1_781_496_000  # the day of made rows: 15 June 2026 of New York
_HOMES = 20  # of a made group
_OPEN_UNIT = 100  # watt-hours to which open sums are rounded
_STEPS = 96
_FLOWS = {Measure.USED: "use", Measure.GENERATED: "sun"}

KINDS = {
    Tier.OPEN: "Sums of groups of at least 15 homes, by quarter-hour or hour. For everybody, CC BY 4.0.",
    Tier.HOMES: "Each home under a pseudonym, by quarter-hour, or by 15 s in a file a day. Homes can be identified: "
    "under an agreement only.",
}
"""What each tier has, for people."""


def files_of_tier(tier: Tier) -> dict[str, list[Column]]:
    """Return the CSV files of a tier with their columns."""
    names, data = ("groups.csv", "sums.csv") if tier is Tier.OPEN else ("homes.csv", "readings.csv")
    return {names: name_columns(tier), data: data_columns(tier)}


def made_rows(tier: Tier) -> list[list[str]]:
    """Return rows of energies that no home has: a day shows the form of a tier's data."""
    rows = []
    for time in range(_DAY, _DAY + _STEPS * QUARTER_S, QUARTER_S):
        energies = {name: power * QUARTER_S / 3600 for name, power in _powers((time - _DAY) / 3600).items()}
        if tier is Tier.OPEN:
            cells = [str(round(_HOMES * energies[name] / _OPEN_UNIT) * _OPEN_UNIT) for name in measures_of(tier)]
        else:
            cells = [f"{energies[name]:.3f}".rstrip("0").rstrip(".") for name in measures_of(tier)]
        rows.append(["house-01" if tier is Tier.OPEN else "made-up-home", iso(time), *cells])
    return rows


def _powers(hour: float) -> dict[Measure, float]:
    """Return a made home's powers at a time of the day, watts."""
    used = 350 + 250 * max(0.0, sin(pi * (hour - 5) / 4)) * (5 < hour < 9) + 900 * max(0.0, sin(pi * (hour - 16) / 7))
    generated = 2600 * max(0.0, sin(pi * (hour - 6) / 13)) * (6 < hour < 19)
    return {
        Measure.USED: used,
        Measure.GENERATED: generated,
        Measure.TAKEN: max(0.0, used - generated),
        Measure.GIVEN: max(0.0, generated - used),
    }


def plot_of(columns: Sequence[str], rows: Rows) -> dict[str, Any]:
    """Return the energies of one name's first rows as series for a page's plot; an empty cell is a gap."""
    times = [parse_time(row[1], "start") for row in rows]
    step_s = times[1] - times[0] if len(times) > 1 else QUARTER_S
    found = []
    for place, column in enumerate(columns[2:], 2):
        name = Measure(column.removesuffix("_wh"))
        values = [float(row[place]) if row[place] else None for row in rows]
        one = {"label": str(name).capitalize(), "unit": "Wh", "x": times, "step_s": step_s, "high": values, "marks": []}
        found.append(one | {"missing": values.count(None)} | ({"flow": _FLOWS[name]} if name in _FLOWS else {}))
    return {"series": found}


def options_words(options: Mapping[str, Any]) -> str:
    """Return how a release's data was made, for people."""
    step_s = int(options["step_s"])
    steps = f"steps of {f'{step_s // 60} minutes' if step_s >= 60 else f'{step_s} seconds'}"
    if "min_homes" in options:
        return f"groups of at least {options['min_homes']} homes, {steps}"
    coarser = {one.name: options[one.name] for one in fields(Coarsening) if one.name in options.keys() - {"step_s"}}
    return f"{steps}, {Coarsening(**coarser).words}"


def attack_words(attacks: Sequence[Mapping[str, Any]]) -> str:
    """Return the result of the attack that learned most, in a sentence."""
    if not attacks:
        return "No attack was run on it."
    most = max(attacks, key=lambda one: one["success"] - one["by_guessing"])
    return (
        f"The most successful of {counted(len(attacks), 'attack')} on it, “{most['attack']}”, succeeds in "
        f"{most['success']:.1%} of its trials; guessing alone succeeds in {most['by_guessing']:.1%}."
    )


def reading_lines(release: str, manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (program, line) that read the largest data file as it is downloaded; none without a manifest."""
    tables = [one for one in manifest.get("resources", ()) if one["path"].endswith(".csv")]
    if not tables:
        return []
    largest = max(tables, key=lambda one: int(one.get("rows", 0)))
    file = f"{release}-{largest['path']}"
    times = [one["name"] for one in largest["schema"]["fields"] if one["type"] == "datetime"]
    return [
        ("DuckDB", f"""import duckdb; print(duckdb.sql("FROM '{file}'"))"""),
        ("pandas", f'import pandas; print(pandas.read_csv("{file}", parse_dates={times!r}))'),
    ]
