"""The kinds of panels in the dashboards, in Grafana's JSON (schema of Grafana 11.6).

A panel has a title, a description with the action to take, a unit and thresholds; numbers are at the top, curves below.
A dashboard is a list of sections; a section is a list of panels that are laid out from left to right.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from commonwatt.model.palette import LOOKS, STATES, PowerFlow

Json: TypeAlias = dict[str, Any]

SCHEMA_VERSION = 41
WIDTH = 24  # columns of a dashboard

_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
GREEN, ORANGE, RED = (STATES[name].dark for name in ("good", "warning", "bad"))

Steps: TypeAlias = Sequence[tuple[float, str]]
"""Pairs of a lower bound and the colour from there on; below the first bound the base colour is used."""


@dataclass(frozen=True)
class Query:
    """A query to Prometheus."""

    expr: str  # PromQL
    legend: str = ""  # name of each series; ``{{label}}`` is replaced by the label's value
    flow: PowerFlow | None = None  # the flow of energy whose colour it has; ``None``: Grafana chooses


@dataclass(frozen=True)
class Panel:
    """A panel without its position."""

    body: Json  # its JSON, without ``id`` and ``gridPos``
    width: int  # in columns
    height: int  # in rows of Grafana's grid


@dataclass(frozen=True)
class Section:
    """Panels under a heading."""

    title: str  # the heading; empty for the first, which needs none
    panels: Sequence[Panel]  # the section's panels


@dataclass(frozen=True)
class Dashboard:
    """A dashboard."""

    name: str  # name of its file, and in its address
    title: str  # its title in Grafana
    description: str  # its purpose
    sections: Sequence[Section]  # its sections from top to bottom
    variables: Sequence[Json] = ()  # variables besides the data source
    hours: int = 6  # default time range, hours


@dataclass(frozen=True)
class Look:
    """The display of values."""

    unit: str = "short"  # grafana's name of the unit
    steps: Steps = ()  # colours by lower bound
    base: str = GREEN  # the colour below the first bound
    words: dict[float, str] = field(default_factory=dict)  # texts shown in place of numbers
    decimals: int | None = None  # digits after the point; ``None``: Grafana chooses
    low: float | None = 0  # minimum of the axis; ``None``: Grafana chooses
    high: float | None = None  # least maximum of the axis, so that small values look small


COUNT = Look(decimals=0, high=10)
NONE_WANTED = Look(decimals=0, steps=((1, RED),))
AGE = Look("s", decimals=0)
SILENT_S = 300  # time without a message after which a gateway counts as silent, seconds
HEARD_BEFORE = Look("s", decimals=0, steps=((SILENT_S, RED),))
WAITS = Look("s", decimals=0, steps=((1800, ORANGE), (86_400, RED)))
FREE = Look("percentunit", decimals=0, steps=((0.1, GREEN),), base=RED)
PER_SECOND = Look("short")


def none_or(expr: str, label: str) -> str:
    """Return a query without the series that are 0; if none is left, its result is one 0 with the label value none."""
    return f'{expr} > 0 or on () label_replace(vector(0), "{label}", "none", "", "")'


def stat(title: str, text: str, *queries: Query, look: Look = COUNT, width: int = 3) -> Panel:
    """Return a panel of one or a few present values."""
    options = {
        "colorMode": "value" if look.steps else "none",
        "graphMode": "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "percentChangeColorMode": "standard",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "showPercentChange": False,
        "textMode": "value_and_name" if len(queries) > 1 else "value",
        "wideLayout": True,
    }
    return _panel("stat", title, text, queries, look, options, (width, 4), instant=True)


def graph(
    title: str, text: str, *queries: Query, look: Look = PER_SECOND, stacked: bool = False, width: int = 8
) -> Panel:
    """Return a panel of curves."""
    options = {
        "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    custom: Json = {
        "drawStyle": "line",
        "fillOpacity": 25 if stacked else 8,
        "lineWidth": 1,
        "lineInterpolation": "linear",
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"group": "A", "mode": "normal" if stacked else "none"},
        "thresholdsStyle": {"mode": "dashed" if look.steps else "off"},
    }
    if look.high is not None:
        custom["axisSoftMax"] = look.high
    panel = _panel("timeseries", title, text, queries, look, options, (width, 8), instant=False)
    panel.body["fieldConfig"]["defaults"] |= {"custom": custom, "color": {"mode": "palette-classic"}}
    panel.body["fieldConfig"]["overrides"] = [
        {
            "matcher": {"id": "byFrameRefID", "options": _ref(i)},
            "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": LOOKS[query.flow].dark}}],
        }
        for i, query in enumerate(queries)
        if query.flow is not None
    ]
    return panel


def states(title: str, text: str, query: Query, words: dict[float, tuple[str, str]], *, width: int = 8) -> Panel:
    """Return a timeline of states; ``words`` has the name and colour of each value."""
    options = {
        "alignValue": "left",
        "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": False},
        "mergeValues": True,
        "rowHeight": 0.7,
        "showValue": "auto",
        "tooltip": {"mode": "single", "sort": "none"},
    }
    look = Look(words={value: word for value, (word, _) in words.items()}, low=None)
    panel = _panel("state-timeline", title, text, [query], look, options, (width, 8), instant=False)
    for mapping in panel.body["fieldConfig"]["defaults"]["mappings"]:
        for value, result in mapping["options"].items():
            result["color"] = words[float(value)][1]
    panel.body["fieldConfig"]["defaults"]["custom"] = {"fillOpacity": 80, "lineWidth": 0}
    return panel


def table(title: str, text: str, key: str, columns: Sequence[tuple[str, Query, Look]], sort: str) -> Panel:
    """Return a table as wide as the dashboard, with a row for each value of the label ``key``."""
    queries = [query for _, query, _ in columns]
    options = {
        "cellHeight": "sm",
        "footer": {"show": False, "reducer": [], "countRows": False},
        "frameIndex": 0,
        "showHeader": True,
        "sortBy": [{"displayName": sort, "desc": True}],
    }
    panel = _panel("table", title, text, queries, Look(low=None), options, (WIDTH, 9), instant=True)
    for target in panel.body["targets"]:
        target["format"] = "table"
    names = {f"Value #{_ref(i)}": title for i, (title, _, _) in enumerate(columns)}
    panel.body["transformations"] = [
        {"id": "joinByField", "options": {"byField": key, "mode": "outer"}},
        {"id": "filterFieldsByName", "options": {"include": {"names": [key, *names]}}},
        {"id": "organize", "options": {"excludeByName": {}, "indexByName": {}, "renameByName": names}},
    ]
    panel.body["fieldConfig"]["defaults"]["custom"] = {
        "align": "auto",
        "cellOptions": {"type": "auto"},
        "inspect": False,
    }
    panel.body["fieldConfig"]["overrides"] = [_override(title, look) for title, _, look in columns]
    return panel


def _override(name: str, look: Look) -> Json:
    properties: list[Json] = [{"id": "unit", "value": look.unit}]
    if look.decimals is not None:
        properties.append({"id": "decimals", "value": look.decimals})
    if look.words:
        properties.append({"id": "mappings", "value": _mappings(look)})
    if look.steps:
        properties += [
            {"id": "thresholds", "value": _thresholds(look)},
            {"id": "custom.cellOptions", "value": {"type": "color-text"}},
        ]
    return {"matcher": {"id": "byName", "options": name}, "properties": properties}


def choice(name: str, label: str, query: str) -> Json:
    """Return a variable with the values of a label; ``query`` is the argument of ``label_values``."""
    asked = f"label_values({query})"
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": _DATASOURCE,
        "query": {"qryType": 1, "query": asked, "refId": "PrometheusVariableQueryEditor-VariableQuery"},
        "refresh": 2,
        "sort": 1,
        "multi": False,
        "includeAll": False,
        "options": [],
        "hide": 0,
    }


def _panel(
    kind: str,
    title: str,
    text: str,
    queries: Sequence[Query],
    look: Look,
    options: Json,
    size: tuple[int, int],
    *,
    instant: bool,
) -> Panel:
    defaults: Json = {
        "unit": look.unit,
        "mappings": _mappings(look),
        "thresholds": _thresholds(look),
        "color": {"mode": "thresholds"},
    }
    limits = {"decimals": look.decimals, "min": look.low}
    defaults |= {name: limit for name, limit in limits.items() if limit is not None}
    body = {
        "type": kind,
        "title": title,
        "description": text,
        "datasource": _DATASOURCE,
        "targets": [_target(i, query, instant=instant) for i, query in enumerate(queries)],
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
    }
    return Panel(body, *size)


def _target(index: int, query: Query, *, instant: bool) -> Json:
    return {
        "refId": _ref(index),
        "datasource": _DATASOURCE,
        "editorMode": "code",
        "expr": query.expr,
        "legendFormat": query.legend or "__auto",
        "instant": instant,
        "range": not instant,
    }


def _ref(index: int) -> str:
    return chr(ord("A") + index)


def _thresholds(look: Look) -> Json:
    steps: list[Json] = [{"color": look.base, "value": None}]
    return {"mode": "absolute", "steps": steps + [{"color": color, "value": value} for value, color in look.steps]}


def _mappings(look: Look) -> list[Json]:
    if not look.words:
        return []
    options = {f"{value:g}": {"text": text, "index": i} for i, (value, text) in enumerate(look.words.items())}
    return [{"type": "value", "options": options}]


def dashboard_json(dashboard: Dashboard) -> Json:
    """Return a dashboard in Grafana's JSON."""
    source = {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
        "refresh": 1,
        "regex": "",
        "multi": False,
        "includeAll": False,
        "options": [],
        "hide": 0,
    }
    return {
        "uid": f"commonwatt-{dashboard.name}",
        "title": dashboard.title,
        "description": dashboard.description,
        "tags": ["commonwatt"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "browser",
        "time": {"from": f"now-{dashboard.hours}h", "to": "now"},
        "refresh": "30s",
        "templating": {"list": [source, *dashboard.variables]},
        "annotations": {"list": []},
        "links": [_link()],
        "panels": list(_placed(dashboard.sections)),
    }


def _link() -> Json:
    return {
        "title": "Commonwatt",
        "type": "dashboards",
        "tags": ["commonwatt"],
        "asDropdown": False,
        "icon": "external link",
        "includeVars": True,
        "keepTime": True,
        "targetBlank": False,
        "tooltip": "",
        "url": "",
    }


def _placed(sections: Iterable[Section]) -> Iterable[Json]:
    """Number the panels, and lay them out from left to right."""
    number, y = 0, 0
    for section in sections:
        if section.title:
            number += 1
            place = {"x": 0, "y": y, "w": WIDTH, "h": 1}
            yield {
                "type": "row",
                "title": section.title,
                "id": number,
                "gridPos": place,
                "collapsed": False,
                "panels": [],
            }
            y += 1
        x = row_height = 0
        for panel in section.panels:
            if x + panel.width > WIDTH:
                x, y, row_height = 0, y + row_height, 0
            number += 1
            place = {"x": x, "y": y, "w": panel.width, "h": panel.height}
            yield panel.body | {"id": number, "gridPos": place}
            x, row_height = x + panel.width, max(row_height, panel.height)
        y += row_height
