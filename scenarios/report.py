"""A comparison of runs as JSON, and as one self-contained HTML page with plots; both repeat to the byte."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from html import escape
from zoneinfo import ZoneInfo

from commonwatt.model.palette import LINES
from scenarios.against import MWH, differences
from scenarios.against import rows as rows_against
from scenarios.decided import equal_rows
from scenarios.fairness import fairness
from scenarios.figures import KINDS, Figures, Sample
from scenarios.policies import POLICIES

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 860, 190, 52, 22
_COLOURS = tuple(line.light for line in LINES)
_DASHES = ("", "6 3", "2 3", "10 3 2 3", "4 4", "1 4")

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:1100px;margin:2rem auto;padding:0 1rem;color:#1c1c1c;background:#fff}
table{border-collapse:collapse;width:100%}th,td{padding:.3rem .5rem;border-bottom:1px solid #ccc;text-align:right}
th:first-child,td:first-child{text-align:left}h2{margin-top:2rem}svg{width:100%;height:auto}
.key span{margin-right:1.2rem;white-space:nowrap}figure{margin:1rem 0}figcaption{color:#555}
@media (prefers-color-scheme:dark){body{background:#161616;color:#eee}th,td{border-color:#444}figcaption{color:#aaa}}
"""

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
            "reduced by command MWh": f"{figures.balance['reduced by command'] / MWH:,.2f}",
            "bought MWh": f"{figures.bought / MWH:,.1f}",
            "at peak MWh": f"{figures.bought_peak / MWH:,.1f}",
            "cost": f"{figures.net_cost / MWH:,.1f}",
            "shared MWh": f"{sum(kind.shared for kind in figures.kinds.values()) / MWH:,.2f}",
            "homes' batteries": f"{figures.mean_percent('residential'):.1f} %",
        }
        for name, figures in runs.items()
    ]


def equal(runs: Mapping[str, Figures]) -> list[str]:
    """Return why rows of the table are equal."""
    return equal_rows(table(runs), {name: figures.decided for name, figures in runs.items()})


def _balance(runs: Mapping[str, Figures]) -> list[dict[str, object]]:
    """Return the lines of the town's energy balance, a column a policy."""
    sums = {name: figures.balance for name, figures in runs.items()}
    return [{"mWh": line, **{name: f"{of[line]:,}" for name, of in sums.items()}} for line in next(iter(sums.values()))]


def as_html(
    title: str, runs: Mapping[str, Figures], facts: Mapping[str, object], zone: ZoneInfo, against: str | None = None
) -> str:
    """Return the page for people: what each policy did, and the course of the town."""
    compared = "" if against is None else f"<h2>Against {escape(against)}</h2>{_table(rows_against(runs, against))}"
    policies = "".join(f"<li><b>{escape(name)}</b>: {escape(POLICIES[name].words)}</li>" for name in runs)
    plots = "".join(
        _plot(caption, {name: [value(s) for s in figures.samples] for name, figures in runs.items()}, runs, zone)
        for caption, value in _PLOTS
    )
    stated = ", ".join(f"{escape(key.replace('_', ' '))} {escape(str(value))}" for key, value in facts.items())
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>'
        f"<h1>{escape(title)}</h1><p>{stated}.</p><h2>What each policy did</h2>"
        f"{_table(table(runs))}<p>{' '.join(map(escape, equal(runs)))}</p>"
        "<p>Cost is in megawatt-hours at the price outside peak hours, less what the town's battery has gained, "
        "and more what it has lost. <i>Went short</i> is the part of the ordinary demand that was not met; what was "
        f"<i>reduced by command</i> is not in it.</p><ul>{policies}</ul>{compared}"
        f"<h2>Energy balance</h2>{_table(_balance(runs))}"
        "<p>In milliwatt-hours: demand + cold load = reduced by command + went short + served, and sun + bought + in "
        "batteries at the beginning = served + sold + lost + in batteries at the end.</p>"
        f"<h2>Who went short, and why</h2>{_short(runs)}"
        f"<h2>How evenly</h2>{_fairness(runs)}"
        f"<h2>Hour by hour</h2><p class=key>{_key(runs)}</p>{plots}</html>\n"
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


_MEASURES = {
    "served": "demand served",
    "given": "surplus given",
    "shortfall": "worst-off behind the mean",
}


def _fairness(runs: Mapping[str, Figures]) -> str:
    rows = ""
    for name, figures in runs.items():
        found = fairness(figures.tallies)
        cells = [_cells(key, found[key].mean, found[key].worst) if key in found else "<td>-<td>-" for key in _MEASURES]
        rows += f"<tr><td>{escape(name)}{''.join(cells)}</tr>"
    head = "".join(f"<th>{words}, mean<th>worst microgrid" for words in _MEASURES.values())
    return (
        f"<table><thead><tr><th>policy{head}</tr></thead><tbody>{rows}</tbody></table>"
        "<p>Of each microgrid: Jain's index of the parts of their demand that members got, and of the parts of "
        "their surplus that batteries gave (1: all the same); and by how many percentage points of its demand the "
        "worst-off member went shorter than the mean.</p>"
    )


def _cells(measure: str, mean: float, worst: float) -> str:
    if measure == "shortfall":
        return f"<td>{100 * mean:.2f}<td>{100 * worst:.2f}"
    return f"<td>{mean:.4f}<td>{worst:.4f}"


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
