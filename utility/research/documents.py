"""The words of a release's files: data dictionary, licence, report of the attacks (U7)."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from commonwatt.model.time.times import iso
from utility.research.attacks.success import Success
from utility.research.figures import Errors
from utility.research.groups import MAX_SHARE_PERCENT, MEASURES, UNIT
from utility.research.homes import Measure
from utility.research.release import MEANINGS, Asked, Tier, as_json, report_lines

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
class Column:
    """A column of a file."""

    name: str  # its name, with its unit
    kind: str  # its type: string, integer, number or datetime
    meaning: str  # what it has, and what an empty cell means


@dataclass(frozen=True, kw_only=True)
class FileFacts:
    """A file of data."""

    name: str  # its name
    columns: Sequence[Column]  # its columns
    rows: int  # how many
    sha256: str  # digest of its bytes


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the documents of a release tell."""

    id: str  # the release
    town: str  # the town's name
    asked: Asked  # what was asked
    version: str  # the code's version
    homes: int  # homes in the release
    left_out: int  # homes of the period that are not in it
    known_percent: float  # part of the homes' steps whose readings are all there
    attacks: Sequence[Success]  # the success of each attack
    errors: Errors | None = None  # how wrong usual figures get; ``None``: not measured
    groups: int = 0  # open tier: the number of groups
    withheld: Sequence[str] = ()  # open tier: groups that are not published
    until: int | None = None  # end of the agreement; ``None``: open


def measures_of(tier: Tier) -> tuple[Measure, ...]:
    """Return the energies that a tier has."""
    return MEASURES if tier is Tier.OPEN else tuple(Measure)


def data_columns(tier: Tier) -> list[Column]:
    """Return the columns of the energies."""
    if tier is Tier.OPEN:
        name = Column(name="group", kind="string", meaning="The group, as in groups.csv")
        empty = (
            f"; rounded to {UNIT // 1000} Wh; empty: not published, as one home has over {MAX_SHARE_PERCENT} % of it"
        )
    else:
        name = Column(name="home", kind="string", meaning="The home's pseudonym in this release")
        empty = "; empty: readings are missing"
    start = Column(name="start", kind="datetime", meaning="Start of the step, UTC")
    energies = [
        Column(name=f"{measure}_wh", kind="number", meaning=f"{MEANINGS[measure]}, Wh{empty}")
        for measure in measures_of(tier)
    ]
    return [name, start, *energies]


def name_columns(tier: Tier) -> list[Column]:
    """Return the columns of the file of groups, or of homes."""
    if tier is Tier.OPEN:
        return [
            Column(name="group", kind="string", meaning="The group; the same name is the same group in all releases"),
            Column(name="function", kind="string", meaning="house, apartment, or home: both"),
            Column(name="homes", kind="integer", meaning="The number of homes"),
        ]
    return [
        Column(name="home", kind="string", meaning="The home's pseudonym; another one in every release"),
        Column(name="function", kind="string", meaning="house or apartment"),
    ]


def licence(facts: Facts) -> str:
    """Return the licence text."""
    if facts.asked.tier is Tier.OPEN:
        return OPEN_LICENCE.format(town=facts.town, id=facts.id)
    return AGREEMENT_LICENCE.format(agreement=facts.asked.agreement, until=iso(facts.until or 0))


def manifest(facts: Facts, files: Sequence[FileFacts]) -> str:
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


def readme(facts: Facts, files: Sequence[FileFacts]) -> str:
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
    seen: dict[str, Column] = {}
    for one in files:
        seen |= {column.name: column for column in one.columns}
    lines += ["| column | type | meaning |", "|---|---|---|"]
    lines += [f"| {c.name} | {c.kind} | {c.meaning} |" for c in seen.values()]
    lines += ["", "## What attacks get from this release", "", *_warning(asked.tier), "", *report_lines(facts.attacks)]
    if facts.errors is not None:
        lines += ["", "## What it costs", "", *_costs(facts.errors)]
    return "\n".join([*lines, "", f"Made by Commonwatt {facts.version}. The licence is in LICENCE.txt.", ""])


def _what(facts: Facts) -> str:
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
