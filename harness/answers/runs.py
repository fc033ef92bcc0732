"""Tables of what policies made of scenarios, from the JSON that ``commonwatt scenario run`` writes."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from commonwatt.energy.simulation.decided import equal_rows

MWH = 10**9  # milliwatt-hours in a megawatt-hour

CLASSES = {"residential": "houses", "apartment": "apartments", "public": "public"}

CAUSES = {"place": "off in turn", "island": "island", "limit": "import limit", "feeder": "feeder", "town": "town"}

MONEY = ("cost", "bought", "at peak", "shared", *(f"short: {words}" for words in CLASSES.values()), "reduced, MWh")

SEASONS = ("normal", "cloudy", "winter")

Run = Mapping[str, Any]  # the JSON of one scenario

Rows = Sequence[Sequence[str]]


def load(folder: Path, name: str) -> Run:
    """Return a scenario's results.

    Raises:
        FileNotFoundError: It was not run.
    """
    found: Run = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return found


def table(head: Sequence[str], rows: Rows) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines)


def stated(run: Run) -> str:
    """Return what was run, a line."""
    return (
        f"{run['scenario']}. {run['microgrids']} microgrids, {run['days']} days from {run['start']}, steps of "
        f"{run['step_s']} s."
    )


def policies(run: Run) -> str:
    """Return cost, purchases, shortfalls, fairness and energy balance of each policy in a scenario."""
    even = ["policy", "served", "worst", "given", "worst", "behind, points", "worst", "worst microgrid"]
    runs = run["policies"]
    money = [dict(zip(("policy", *MONEY), (f"`{name}`", *_money(one)), strict=True)) for name, one in runs.items()]
    equal = equal_rows(money, {f"`{name}`": one["decided"] for name, one in runs.items()})
    lines = next(iter(runs.values()))["balance_mwh"]
    parts = (
        stated(run),
        table(["policy", *MONEY], [list(row.values()) for row in money]),
        " ".join(equal),
        table(even, [[f"`{name}`", *_even(one["fairness"])] for name, one in runs.items()]),
        table(
            ["mWh", *(row["policy"] for row in money)],
            [[line, *(f"{one['balance_mwh'][line]:,}" for one in runs.values())] for line in lines],
        ),
    )
    return "\n\n".join(filter(None, parts))


def courses(runs: Mapping[str, Run]) -> str:
    """Return what went short, what was reduced by command, cost and sharing in many scenarios, by policy."""
    one = next(iter(runs.values()))
    names = list(one["policies"])
    figures: Mapping[str, Callable[[Run], str]] = {
        "Part of the ordinary demand that went short": lambda it: _percent(_short_of(it), _wanted(it)),
        "Ordinary demand that was reduced by command, MWh": lambda it: _mwh(_sum(it, "reduced_mwh")),
        "Cost, MWh at the price outside peak hours": lambda it: _mwh(it["net_cost"]),
        "What batteries shared, MWh": lambda it: _mwh(_sum(it, "shared_mwh")),
    }
    return "\n\n".join(
        f"{words}:\n\n"
        + table(
            ["scenario", "days", *(f"`{name}`" for name in names)],
            [[f"`{n}`", str(r["days"]), *(of(r["policies"][name]) for name in names)] for n, r in runs.items()],
        )
        for words, of in figures.items()
    )


def readings(pairs: Mapping[str, Run]) -> str:
    """Return the same scenario by two readings of its source, side by side."""
    rows = [
        [words, f"`{name}`", _mwh(_wanted(one)), *_money(one)]
        for words, run in pairs.items()
        for name, one in run["policies"].items()
    ]
    return table(["reading", "policy", "demand", *MONEY], rows)


def seasons(runs: Mapping[str, Run]) -> str:
    """Return what the sun gave, what was bought and who went short in scenarios of different seasons."""
    head = ["scenario", "policy", "sun, of demand", "bought a day", "at peak", "shared a day", "homes' batteries, mean",
            "town battery, least", "went short", "reduced, MWh"]  # fmt: skip
    return table(head, [_season(name, run, policy) for name, run in runs.items() for policy in ("none", "spec")])


def affected(runs: Mapping[str, Run]) -> str:
    """Return how many members of each class went short, by how much, and why; classes without any are left out."""
    rows = []
    for name, run in runs.items():
        for policy in ("none", "no-sharing", "spec", "aces"):
            for kind, words in CLASSES.items():
                of = run["policies"][policy]["kinds"][kind]
                if not of["members_short"]:
                    continue
                why = ", ".join(f"{CAUSES[cause]} {_percent(part, of['wanted_mwh'])}" for cause, part in
                                of["unserved_mwh"].items())  # fmt: skip
                short = f"{of['members_short']:,} of {of['members']:,}"
                reduced = _mwh(of["reduced_mwh"])
                rows.append([f"`{name}`", f"`{policy}`", words, short, _short(of), why, reduced])
    head = ["scenario", "policy", "class", "members that went short", "of their class's demand", "why"]
    return table([*head, "reduced, MWh"], rows)


def minima(runs: Mapping[str, Run]) -> str:
    """Return which part of their demand houses did not get, by their sharing minimum."""
    rows = []
    for name, run in runs.items():
        for policy, one in run["policies"].items():
            houses = one["houses_by_minimum_percent"]
            cells = [_percent(houses[key]["unserved_mwh"], houses[key]["wanted_mwh"]) for key in ("25", "50", "75")]
            rows.append([f"`{name}`", f"`{policy}`", *cells, _mwh(one["kinds"]["residential"]["reduced_mwh"])])
    return table(["scenario", "policy", "short: minimum 25 %", "minimum 50 %", "minimum 75 %", "reduced, MWh"], rows)


def _money(one: Run) -> list[str]:
    return [
        _mwh(one["net_cost"]),
        _mwh(one["bought_mwh"]),
        _mwh(one["bought_peak_mwh"]),
        _mwh(_sum(one, "shared_mwh")),
        *(_short(one["kinds"][kind]) for kind in CLASSES),
        _mwh(_sum(one, "reduced_mwh")),
    ]


def _even(fairness: Mapping[str, Run]) -> list[str]:
    cells = []
    for name, factor, form in (("served", 1, ".4f"), ("given", 1, ".3f"), ("shortfall", 100, ".2f")):
        it = fairness.get(name)
        cells += ["-", "-"] if it is None else [format(factor * it[key], form) for key in ("mean", "worst")]
    behind = fairness["shortfall"]
    return [*cells, behind["worst_microgrid"] if behind["worst"] else "-"]


def _season(name: str, run: Run, policy: str) -> list[str]:
    one = run["policies"][policy]
    return [
        f"`{name}`",
        f"`{policy}`",
        f"{100 * _sum(one, 'sun_mwh') / _wanted(one):.0f} %",
        _mwh(one["bought_mwh"] / run["days"]),
        f"{100 * one['bought_peak_mwh'] / one['bought_mwh']:.0f} %" if one["bought_mwh"] else "-",
        _mwh(_sum(one, "shared_mwh") / run["days"]),
        f"{one['kinds']['residential']['mean_level_percent']:.0f} %",
        f"{min(one['hours']['plant_percent']):.0f} %",
        _percent(_short_of(one), _wanted(one)),
        _mwh(_sum(one, "reduced_mwh")),
    ]


def _short_of(one: Run) -> int:
    return sum(sum(of["unserved_mwh"].values()) for of in one["kinds"].values())


def _wanted(one: Run) -> int:
    return _sum(one, "wanted_mwh")


def _sum(one: Run, key: str) -> int:
    return sum(int(of[key]) for of in one["kinds"].values())


def _short(of: Run) -> str:
    return _percent(sum(of["unserved_mwh"].values()), of["wanted_mwh"])


def _mwh(energy: float) -> str:
    return f"{energy / MWH:,.1f}"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f} %" if part else "0"
