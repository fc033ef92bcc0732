"""The words of a release: data dictionary, licence, report of attacks, and what one sees before a download (U7)."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from math import pi, sin
from typing import Any

from commonwatt.model.calendar import iso, parse_time
from commonwatt.model.text import counted
from commonwatt.model.units import QUARTER_S
from utility.research.attacks import Success
from utility.research.coarsening import Coarsening
from utility.research.groups import MAX_SHARE_PERCENT, MEASURES, UNIT
from utility.research.homes import HomeMeasure
from utility.research.release import MEANINGS, AskedRelease, Errors, Tier, as_json, report_lines

OPEN_LICENCE = """This data is licensed under the Creative Commons Attribution 4.0 International licence
(CC BY 4.0), https://creativecommons.org/licenses/by/4.0/legalcode.

You may copy, change and publish it, also commercially, if you name its source: {town}, release {id}.
It is given as it is, without any warranty.
"""

AGREEMENT_LICENCE = """This data is of homes that can be identified. It is given under the agreement "{agreement}" only.

1. Only the persons named in the agreement may have it, for the purpose named there.
2. No person may try to find the homes or persons behind it, or join it with other data that makes this likely.
3. It may not be passed on or published. Results may be published if no home can be recognised in them.
4. It must be stored encrypted, and deleted when the agreement ends: {until}.
5. A loss, or a home that was recognised by chance, must be reported to the utility at once.
"""


@dataclass(frozen=True, kw_only=True)
class FileColumn:
    """A column of a file."""

    name: str  # its name, with its unit
    kind: str  # its type: string, integer, number or datetime
    meaning: str  # what it has, and what an empty cell means


@dataclass(frozen=True, kw_only=True)
class FileFacts:
    """A file of data."""

    name: str  # its name
    columns: Sequence[FileColumn]  # its columns
    rows: int  # how many
    sha256: str  # digest of its bytes


@dataclass(frozen=True, kw_only=True)
class ReleaseFacts:
    """What the documents of a release tell."""

    id: str  # the release
    town: str  # the town's name
    asked: AskedRelease  # what was asked
    version: str  # the code's version
    homes: int  # homes in the release
    left_out: int  # homes of the period that are not in it
    known_percent: float  # part of the homes' steps whose readings are all there
    attacks: Sequence[Success]  # the success of each attack
    errors: Errors | None = None  # how wrong usual figures get; ``None``: not measured
    groups: int = 0  # open tier: the number of groups
    withheld: Sequence[str] = ()  # open tier: groups that are not published
    until: int | None = None  # end of the agreement; ``None``: open


def measures_of(tier: Tier) -> tuple[HomeMeasure, ...]:
    """Return the energies that a tier has."""
    return MEASURES if tier is Tier.OPEN else tuple(HomeMeasure)


def data_columns(tier: Tier) -> list[FileColumn]:
    """Return the columns of the energies."""
    if tier is Tier.OPEN:
        name = FileColumn(name="group", kind="string", meaning="The group, as in groups.csv")
        empty = (
            f"; rounded to {UNIT // 1000} Wh; empty: not published, as one home has over {MAX_SHARE_PERCENT} % of it"
        )
    else:
        name = FileColumn(name="home", kind="string", meaning="The home's pseudonym in this release")
        empty = "; empty: readings are missing"
    start = FileColumn(name="start", kind="datetime", meaning="Start of the step, UTC")
    energies = [
        FileColumn(name=f"{measure}_wh", kind="number", meaning=f"{MEANINGS[measure]}, Wh{empty}")
        for measure in measures_of(tier)
    ]
    return [name, start, *energies]


def name_columns(tier: Tier) -> list[FileColumn]:
    """Return the columns of the file of groups, or of homes."""
    if tier is Tier.OPEN:
        return [
            FileColumn(
                name="group", kind="string", meaning="The group; the same name is the same group in all releases"
            ),
            FileColumn(name="function", kind="string", meaning="house, apartment, or home: both"),
            FileColumn(name="homes", kind="integer", meaning="The number of homes"),
        ]
    return [
        FileColumn(name="home", kind="string", meaning="The home's pseudonym; another one in every release"),
        FileColumn(name="function", kind="string", meaning="house or apartment"),
    ]


def licence(facts: ReleaseFacts) -> str:
    """Return the licence text."""
    if facts.asked.tier is Tier.OPEN:
        return OPEN_LICENCE.format(town=facts.town, id=facts.id)
    return AGREEMENT_LICENCE.format(agreement=facts.asked.agreement, until=iso(facts.until or 0))


def manifest(facts: ReleaseFacts, files: Sequence[FileFacts]) -> str:
    """Return ``datapackage.json``: a Frictionless data package, with what the release was made of and what it risks."""
    is_open = facts.asked.tier is Tier.OPEN
    package = {
        "name": f"release-{facts.id}",
        "id": facts.id,
        "title": f"{facts.town}: {facts.asked.tier} release",
        "licenses": [{"name": "CC-BY-4.0"} if is_open else {"title": "agreement", "path": "LICENCE.txt"}],
        "resources": [_resource(one) for one in files],
        "release": {
            "tier": facts.asked.tier,
            "from": iso(facts.asked.start),
            "until": iso(facts.asked.end),
            "options": facts.asked.options,
            "version": facts.version,
            "homes": facts.homes,
            "homes_left_out": facts.left_out,
            "known_percent": round(facts.known_percent, 3),
            "groups": facts.groups,
            "groups_withheld": list(facts.withheld),
            "attacks": as_json(facts.attacks),
            "errors": None if facts.errors is None else vars(facts.errors),
        },
    }
    return json.dumps(package, indent=1) + "\n"


def _resource(one: FileFacts) -> dict[str, object]:
    fields = [{"name": c.name, "type": c.kind, "description": c.meaning} for c in one.columns]
    facts: Mapping[str, object] = {"name": one.name.partition(".")[0], "path": one.name}
    return {**facts, "rows": one.rows, "hash": f"sha256:{one.sha256}", "schema": {"fields": fields}}


def readme(facts: ReleaseFacts, files: Sequence[FileFacts]) -> str:
    """Return the page that people read: what it is, data dictionary, attacks, costs."""
    asked = facts.asked
    lines = [f"# {facts.town}: release {facts.id}", "", _what(facts), ""]
    lines += [f"- period: {iso(asked.start)} to {iso(asked.end)}", f"- steps: {asked.step_s} s"]
    lines += [f"- homes: {facts.homes}; left out: {facts.left_out}", f"- readings there: {facts.known_percent:.2f} %"]
    if facts.withheld:
        names = ", ".join(facts.withheld)
        lines += [f"- groups withheld, since an earlier release of this time has other sums of them: {names}"]
    lines += ["", "## Files", "", "| file | rows | sha256 |", "|---|---|---|"]
    lines += [f"| {one.name} | {one.rows} | {one.sha256} |" for one in files]
    lines += ["", "## Data dictionary", ""]
    seen: dict[str, FileColumn] = {}
    for one in files:
        seen |= {column.name: column for column in one.columns}
    lines += ["| column | type | meaning |", "|---|---|---|"]
    lines += [f"| {c.name} | {c.kind} | {c.meaning} |" for c in seen.values()]
    lines += ["", "## What attacks get from this release", "", *_warning(asked.tier), "", *report_lines(facts.attacks)]
    if facts.errors is not None:
        lines += ["", "## What it costs", "", *_costs(facts.errors)]
    return "\n".join([*lines, "", f"Made by Commonwatt {facts.version}. The licence is in LICENCE.txt.", ""])


def _what(facts: ReleaseFacts) -> str:
    if facts.asked.tier is Tier.OPEN:
        return (
            f"Sums of {facts.groups} groups of at least {facts.asked.min_homes} homes. No home has more than "
            f"{MAX_SHARE_PERCENT} % of a published sum."
        )
    return (
        f"Readings of single homes under pseudonyms, {facts.asked.coarsening.words}. **These homes can be "
        f'identified**: the data is given under the agreement "{facts.asked.agreement}" only.'
    )


def _warning(tier: Tier) -> list[str]:
    if tier is Tier.OPEN:
        return ["Each attack was run on this release. A success near that of guessing means that it learned little."]
    return ["Each attack was run on this release. These figures are a warning, no pass mark."]


def _costs(errors: Errors) -> list[str]:
    lines = [f"- error of the load curve: {errors.curve:.1%}", f"- error of the peak: {errors.peak:.1%}"]
    if errors.home_peak is not None:
        lines += [f"- mean error of a home's peak: {errors.home_peak:.1%}"]
    return lines


Rows = Sequence[Sequence[str]]  # cells of a CSV file, without its heading

_DAY = 1_781_496_000  # the day of made rows: 15 June 2026 of New York
_HOMES = 20  # of a made group
_OPEN_UNIT = 100  # watt-hours to which open sums are rounded
_STEPS = 96
_FLOWS = {HomeMeasure.USED: "use", HomeMeasure.GENERATED: "sun"}

KINDS = {
    Tier.OPEN: "Sums of groups of at least 15 homes, by quarter-hour or hour. For everybody, CC BY 4.0.",
    Tier.HOMES: "Each home under a pseudonym, by quarter-hour, or by 15 s in a file a day. Homes can be identified: "
    "under an agreement only.",
}
"""What each tier has, for people."""


def files_of_tier(tier: Tier) -> dict[str, list[FileColumn]]:
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


def _powers(hour: float) -> dict[HomeMeasure, float]:
    """Return a made home's powers at a time of the day, watts."""
    used = 350 + 250 * max(0.0, sin(pi * (hour - 5) / 4)) * (5 < hour < 9) + 900 * max(0.0, sin(pi * (hour - 16) / 7))
    generated = 2600 * max(0.0, sin(pi * (hour - 6) / 13)) * (6 < hour < 19)
    return {
        HomeMeasure.USED: used,
        HomeMeasure.GENERATED: generated,
        HomeMeasure.TAKEN: max(0.0, used - generated),
        HomeMeasure.GIVEN: max(0.0, generated - used),
    }


def plot_of(columns: Sequence[str], rows: Rows) -> dict[str, Any]:
    """Return the energies of one name's first rows as series for a page's plot; an empty cell is a gap."""
    times = [parse_time(row[1], "start") for row in rows]
    step_s = times[1] - times[0] if len(times) > 1 else QUARTER_S
    found = []
    for place, column in enumerate(columns[2:], 2):
        name = HomeMeasure(column.removesuffix("_wh"))
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
    shuffled = "days shuffled, " if options.get("shuffled") else ""  # an option of 0.3
    return f"{steps}, {shuffled}{Coarsening(**coarser).words}"


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
