"""A comparison of runs as JSON, and as one self-contained HTML page with plots; both repeat to the byte.

One policy may be compared with all others: the differences of their figures.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from string import Template
from types import MappingProxyType
from zoneinfo import ZoneInfo

from commonwatt.energy.simulation.decided import equal_rows
from commonwatt.energy.simulation.fairness import fairness
from commonwatt.energy.simulation.figures import KINDS, Figures, Sample
from commonwatt.look.palette import LINES
from utility.supply.simulated.policies import POLICIES

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 860, 190, 52, 22
_COLOURS = tuple(line.light for line in LINES)
_DASHES = ("", "6 3", "2 3", "10 3 2 3", "4 4", "1 4")

_PAGE = Template(Path(__file__).with_name("report.html").read_text(encoding="utf-8"))

MWH = 10**9  # milliwatt-hours in a megawatt-hour
_COLUMNS = {
    "reduced by command MWh": ("reduced_mwh", 2),
    "bought MWh": ("bought_mwh", 1),
    "at peak MWh": ("bought_peak_mwh", 1),
    "cost": ("net_cost", 1),
    "shared MWh": ("shared_mwh", 2),
}

_CAUSES = {
    "place": "off in turn",
    "island": "island",
    "limit": "import limit",
    "feeder": "feeder",
    "town": "town short",
}


def as_json(title: str, runs: Mapping[str, Figures], facts: Mapping[str, object], against: str | None = None) -> str:
    """Return the runs as JSON: the sums of each policy, the town hour by hour, the differences to one policy."""
    content = {
        "scenario": title,
        **facts,
        "policies": {name: _sums(figures) | {"hours": _hours(figures.samples)} for name, figures in runs.items()},
    }
    if against is not None:
        content["against"] = {"policy": against, "differences": differences(runs, against)}
    return json.dumps(content, indent=1) + "\n"


def table(runs: Mapping[str, Figures]) -> list[dict[str, object]]:
    """Return one row a policy, for people."""
    return [
        {
            "policy": name,
            "went short": f"{_percent(figures.unserved, figures.balance['demand']):.3f} %",
            **_megawatt_hours(_compared(figures)),
            "homes' batteries": f"{figures.mean_percent('residential'):.1f} %",
        }
        for name, figures in runs.items()
    ]


def differences(runs: Mapping[str, Figures], against: str) -> dict[str, dict[str, int | float]]:
    """Return each other run's figures less those of ``against``; energies and costs in milliwatt-hours."""
    base = _compared(runs[against])
    return {
        name: {key: round(value - base[key], 2) for key, value in _compared(figures).items()}
        for name, figures in runs.items()
        if name != against
    }


def rows_against(runs: Mapping[str, Figures], against: str) -> list[dict[str, object]]:
    """Return the differences for people, one row a policy; less is better but for the batteries."""
    return [
        {
            "policy": name,
            "went short MWh": f"{by['unserved_mwh'] / MWH:+,.3f}",
            **_megawatt_hours(by, "+"),
            "homes' batteries": f"{by['homes_percent']:+.1f} points",
        }
        for name, by in differences(runs, against).items()
    ]


def _megawatt_hours(figures: Mapping[str, int | float], sign: str = "") -> dict[str, str]:
    """Return what ``_compared`` returns, for people; ``sign``: ``+``, if each has one."""
    return {title: f"{figures[key] / MWH:{sign},.{digits}f}" for title, (key, digits) in _COLUMNS.items()}


def _compared(figures: Figures) -> dict[str, int | float]:
    """Return the figures by which runs are compared; energies and costs in milliwatt-hours."""
    by_kind = {f"unserved_{kind}_mwh": figures.kinds[kind].unserved.total() for kind in KINDS}
    return {
        "unserved_mwh": figures.unserved,
        **by_kind,
        "reduced_mwh": figures.balance["reduced by command"],
        "bought_mwh": figures.bought,
        "bought_peak_mwh": figures.bought_peak,
        "net_cost": figures.net_cost,
        "shared_mwh": sum(kind.shared for kind in figures.kinds.values()),
        "homes_percent": figures.mean_percent("residential"),
    }


def equal(runs: Mapping[str, Figures]) -> list[str]:
    """Return why rows of the table are equal."""
    return equal_rows(table(runs), {name: figures.decided for name, figures in runs.items()})


def _balance(runs: Mapping[str, Figures]) -> list[dict[str, object]]:
    """Return the lines of the town's energy balance, a column a policy."""
    sums = {name: figures.balance for name, figures in runs.items()}
    return [{"mWh": line, **{name: f"{of[line]:,}" for name, of in sums.items()}} for line in next(iter(sums.values()))]


def as_html(
    title: str,
    runs: Mapping[str, Figures],
    facts: Mapping[str, object],
    zone: ZoneInfo,
    against: str | None = None,
    tables: Mapping[str, Sequence[Mapping[str, object]]] = MappingProxyType({}),
) -> str:
    """Return the page for people: what each policy did, the course of the town, and more ``tables`` by title."""
    against_it = "" if against is None else f"<h2>Against {escape(against)}</h2>{_table(rows_against(runs, against))}"
    against_it += "".join(f"<h2>{escape(name)}</h2>{_table(rows)}" for name, rows in tables.items() if rows)
    plots = (
        _plot(caption, {name: [value(s) for s in figures.samples] for name, figures in runs.items()}, runs, zone)
        for caption, value in _PLOTS
    )
    return _PAGE.substitute(
        title=escape(title),
        facts=", ".join(f"{escape(key.replace('_', ' '))} {escape(str(value))}" for key, value in facts.items()),
        table=_table(table(runs)),
        equal=" ".join(map(escape, equal(runs))),
        policies="".join(f"<li><b>{escape(n)}</b>: {escape(POLICIES[n].words)}</li>" for n in runs if n in POLICIES),
        against=against_it,
        balance=_table(_balance(runs)),
        short=_short(runs),
        fairness=_table(_fairness(runs)),
        key=_key(runs),
        plots="".join(plots),
    )


_PLOTS: Sequence[tuple[str, Callable[[Sample], float]]] = (
    ("Homes' batteries, percent of their capacity", lambda s: s.levels_percent["residential"]),
    ("The town's battery, percent of its capacity", lambda s: s.plant_percent),
    ("Bought from the region, megawatt-hours an hour", lambda s: s.bought / MWH),
    ("Demand that was not met, megawatt-hours an hour", lambda s: s.unserved / MWH),
    ("Microgrids that are islands", lambda s: float(s.islands)),
)


def _table(rows: Sequence[Mapping[str, object]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in rows[0])
    body = "".join("<tr>" + "".join(f"<td>{escape(str(v))}</td>" for v in row.values()) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _short(runs: Mapping[str, Figures]) -> str:
    lines = [
        f"<li>{escape(name)}, {kind}: {_percent(count, of.wanted):.3f} % ({_CAUSES[cause]})</li>"
        for name, figures in runs.items()
        for kind, of in figures.kinds.items()
        for cause, count in of.unserved.items()
        if count
    ]
    return f"<ul>{''.join(lines)}</ul>" if lines else "<p>Nobody.</p>"


# The heading of each measure of fairness, and how its values are written.
_MEASURES = {
    "served": ("demand served", "{:.4f}"),
    "given": ("surplus given", "{:.4f}"),
    "shortfall": ("worst-off behind the mean", "{:.2%}"),
}


def _fairness(runs: Mapping[str, Figures]) -> list[dict[str, object]]:
    """Return the measures of fairness, one row a policy."""
    rows = []
    for name, figures in runs.items():
        found, row = fairness(figures.tallies), dict[str, object](policy=name)
        for key, (words, form) in _MEASURES.items():
            row[f"{words}, mean"] = form.format(found[key].mean) if key in found else "-"
            row[f"{words}, worst microgrid"] = form.format(found[key].worst) if key in found else "-"
        rows.append(row)
    return rows


def _key(runs: Mapping[str, Figures]) -> str:
    return "".join(
        f'<span><svg width=28 height=8 style="width:28px"><line x1=0 y1=4 x2=28 y2=4 stroke="{_COLOURS[n]}" '
        f'stroke-width=2 stroke-dasharray="{_DASHES[n]}"/></svg> {escape(name)}</span>'
        for n, name in enumerate(runs)
    )


def _plot(caption: str, lines: Mapping[str, Sequence[float]], runs: Mapping[str, Figures], zone: ZoneInfo) -> str:
    """Return one plot: a line a policy, a mark at each local midnight."""
    samples = next(iter(runs.values())).samples
    highest = max((value for line in lines.values() for value in line), default=0) or 1
    width, height = _WIDTH - _LEFT, _HEIGHT - _BOTTOM

    def point(n: int, value: float) -> str:
        return f"{_LEFT + width * n / max(len(samples) - 1, 1):.1f},{height - (height - 8) * value / highest:.1f}"

    drawn = "".join(
        f'<polyline fill="none" stroke="{_COLOURS[n]}" stroke-width="1.6" stroke-dasharray="{_DASHES[n]}" '
        f'points="{" ".join(point(i, v) for i, v in enumerate(line))}"/>'
        for n, line in enumerate(lines.values())
    )
    days = "".join(
        f'<text x="{_LEFT + width * n / max(len(samples) - 1, 1):.1f}" y="{_HEIGHT - 6}" font-size="11" '
        f'fill="currentColor">{local:%d %b}</text>'
        for n, sample in enumerate(samples)
        if (local := datetime.fromtimestamp(sample.time, zone)).hour == 0 and len(samples) < 24 * 40
    )
    axis = (
        f'<line x1="{_LEFT}" y1="{height}" x2="{_WIDTH}" y2="{height}" stroke="currentColor" stroke-width="0.6"/>'
        f'<text x="0" y="14" font-size="11" fill="currentColor">{highest:.4g}</text>'
        f'<text x="0" y="{height}" font-size="11" fill="currentColor">0</text>'
    )
    return (
        f'<figure><figcaption>{escape(caption)}</figcaption><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(caption)}">{axis}{drawn}{days}</svg></figure>'
    )


def _sums(figures: Figures) -> dict[str, object]:
    return {
        "bought_mwh": figures.bought,
        "bought_peak_mwh": figures.bought_peak,
        "cost": figures.cost,
        "plant_gain_mwh": figures.plant_gain,
        "net_cost": figures.net_cost,
        "sold_mwh": figures.sold,
        "highest_w": figures.highest_w,
        "plant": {f"{name}_mwh": energy for name, energy in figures.plant.items()},
        "balance_mwh": figures.balance,
        "switches": figures.switches,
        "inversions": figures.inversions,
        "decided": figures.decided,
        "fairness": {
            name: {
                "mean": round(it.mean, 6),
                "worst": round(it.worst, 6),
                "worst_microgrid": it.where,
                "microgrids": it.microgrids,
            }
            for name, it in fairness(figures.tallies).items()
        },
        "houses_by_minimum_percent": {
            percent: {"wanted_mwh": wanted, "unserved_mwh": short}
            for percent, (wanted, short) in figures.by_minimum().items()
        },
        "kinds": {
            kind: {
                "members": figures.members(kind)[0],
                "members_short": figures.members(kind)[1],
                **{f"{name}_mwh": sums for name, sums in vars(of).items()},
                "unserved_mwh": {cause: count for cause, count in of.unserved.items() if count},
                "curtailed_mwh": {cause: count for cause, count in of.curtailed.items() if count},
                "mean_level_percent": round(figures.mean_percent(kind), 2),
            }
            for kind in KINDS
            if (of := figures.kinds[kind]).wanted
        },
    }


def _hours(samples: Sequence[Sample]) -> dict[str, list[float]]:
    return {
        "time": [sample.time for sample in samples],
        "homes_percent": [round(sample.levels_percent["residential"], 2) for sample in samples],
        "plant_percent": [round(sample.plant_percent, 2) for sample in samples],
        "bought_mwh": [sample.bought for sample in samples],
        "unserved_mwh": [sample.unserved for sample in samples],
        "islands": [sample.islands for sample in samples],
        "price_percent": [sample.price_percent for sample in samples],
    }


def _percent(part: int, whole: int) -> float:
    return 100 * part / whole if whole else 0.0
