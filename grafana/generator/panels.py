"""Dashboards in Grafana's JSON (schema of Grafana 11.6), from their TOML files.

A file has the sections from top to bottom, and the panels of each, which are laid out from left to right: first the
answer in large numbers, then curves with the reason, then details, of which the rare ones are folded. A panel has a
title, a text with the action to take, its queries by the names of their series, and a look. Queries of a panel with
``rare`` leave out zeros; if nothing is left, they answer 0 with this label. ``colour`` has flows of energy and states
by the names of their series. ``looks.toml`` has looks by name, ``skeleton.json`` what is the same in all dashboards.
"""

import json
import tomllib
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, TypeAlias

from commonwatt.look.palette import LINES, LOOKS, STATES, SURFACES, Shade

Json: TypeAlias = dict[str, Any]

HERE = Path(__file__).parent
WIDTH = 24  # columns of a dashboard

_NAMED = tomllib.loads((HERE / "looks.toml").read_text(encoding="utf-8"))
_SKELETON = json.loads((HERE / "skeleton.json").read_text(encoding="utf-8"))
_COLOURS = {name: STATES[state].dark for name, state in (("green", "good"), ("orange", "warning"), ("red", "bad"))}
_SHADES: dict[str, Shade] = {**{str(flow): look for flow, look in LOOKS.items()}, **STATES, **SURFACES}
_SIZES = {"answer": (6, 5), "stat": (3, 4), "graph": (8, 8), "states": (8, 8), "table": (WIDTH, 9)}
"""By kind: columns, and rows of Grafana's grid."""
_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True, kw_only=True)
class Look:
    """The display of values."""

    unit: str = "short"  # grafana's name of the unit
    steps: Sequence[tuple[float, str]] = ()  # a lower bound and the colour from there on
    base: str = "green"  # the colour below the first bound
    words: Sequence[str] = ()  # texts shown in place of the numbers 0, 1, ...
    colours: Sequence[str] = ()  # their colours, on a timeline
    decimals: int | None = None  # digits after the point; ``None``: Grafana chooses
    low: float | str = 0  # minimum of the axis; ``any``: Grafana chooses
    high: float | None = None  # least maximum of the axis, so that small values look small


def dashboard_json(path: Path) -> Json:
    """Return the dashboard of a file."""
    given = tomllib.loads(path.read_text(encoding="utf-8"))
    made: Json = deepcopy(_SKELETON["dashboard"])
    made |= {"uid": f"commonwatt-{path.stem}", "title": given["title"], "description": given["description"]}
    made["time"]["from"] = f"now-{given.get('hours', 6)}h"
    for choice in given.get("choice", ()):
        variable = deepcopy(_SKELETON["choice"]) | {"name": choice["name"], "label": choice["label"]}
        variable["query"]["query"] = f"label_values({choice['values']})"
        made["templating"]["list"].append(variable)
    return made | {"panels": _placed(given["section"])}


def _placed(sections: Sequence[Json]) -> list[Json]:
    """Number the panels, and lay them out from left to right; those of a folded section are inside its row."""
    made: list[Json] = []
    ids, y = count(1), 0
    for section in sections:
        into, folded = made, section.get("folded", False)
        if "title" in section:
            place = {"x": 0, "y": y, "w": WIDTH, "h": 1}
            row = deepcopy(_SKELETON["row"]) | {"title": section["title"], "id": next(ids), "gridPos": place}
            made.append(row)
            y += 1
            if folded:
                row["collapsed"], into = True, row["panels"]
        top, x, row_height = y, 0, 0
        for panel in section["panel"]:
            kind = panel.get("kind", section["panels"])
            width, height = _SIZES[kind]
            width = section.get("width", width)
            if x + width > WIDTH:
                x, y, row_height = 0, y + row_height, 0
            place = {"x": x, "y": y, "w": width, "h": height}
            into.append(_panel("stat" if kind == "answer" else kind, panel) | {"id": next(ids), "gridPos": place})
            x, row_height = x + width, max(row_height, height)
        y = top if folded else y + row_height
    return made


def _panel(kind: str, given: Json) -> Json:
    """Return a panel without its position."""
    query = given.get("query", {f"column {i}": one["query"] for i, one in enumerate(given.get("column", ()))})
    queries: Mapping[str, str] = {"": query} if isinstance(query, str) else query
    if "rare" in given:
        none = f'label_replace(vector(0), "{given["rare"]}", "none", "", "")'
        queries = {name: f"{one} > 0 or on () {none}" for name, one in queries.items()}
    look = _look(given.get("look", {"stat": "count", "table": "any"}.get(kind, {})))
    defaults: Json = {
        "unit": look.unit,
        "mappings": _mappings(look),
        "thresholds": _thresholds(look),
        "color": {"mode": "palette-classic" if kind == "graph" else "thresholds"},
    }
    limits = {"decimals": look.decimals, "min": None if look.low == "any" else look.low}
    defaults |= {name: limit for name, limit in limits.items() if limit is not None}
    same = deepcopy(_SKELETON["panels"][kind])
    body = {
        "type": same["type"],
        "title": given["title"],
        "description": given["text"],
        "datasource": _DATASOURCE,
        "targets": [
            {
                "refId": _ref(i),
                "datasource": _DATASOURCE,
                "editorMode": "code",
                "expr": expr,
                "legendFormat": "__auto" if kind == "table" else legend or "__auto",
                "instant": kind in ("stat", "table"),
                "range": kind not in ("stat", "table"),
            }
            for i, (legend, expr) in enumerate(queries.items())
        ],
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": same["options"],
    }
    if "custom" in same:
        defaults["custom"] = same["custom"]
    if kind == "stat":
        if "flow" in given:
            defaults["color"] = {"mode": "fixed", "fixedColor": _SHADES[given["flow"]].dark}
        body["options"]["colorMode"] = "value" if look.steps or "flow" in given else "none"
        body["options"]["textMode"] = "value_and_name" if len(queries) > 1 else "value"
    elif kind == "graph":
        _finish_graph(body, given, look)
    elif kind == "states":
        _finish_states(body, look)
    else:
        _finish_table(body, given)
    return body


def _finish_graph(body: Json, given: Json, look: Look) -> None:
    custom = body["fieldConfig"]["defaults"]["custom"]
    if given.get("stacked"):
        custom["fillOpacity"], custom["stacking"]["mode"] = 25, "normal"
    if look.steps:
        custom["thresholdsStyle"]["mode"] = "dashed"
    if look.high is not None:
        custom["axisSoftMax"] = look.high
    plain = [name for target in body["targets"] if "{{" not in (name := target["legendFormat"])]
    shades: dict[str, Shade] = dict(zip(plain, LINES, strict=False))
    shades |= {name: _SHADES[colour] for name, colour in given.get("colour", {}).items()}
    body["fieldConfig"]["overrides"] = [
        {
            "matcher": {"id": "byName", "options": name},
            "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": shade.dark}}],
        }
        for name, shade in shades.items()
    ]


def _finish_states(body: Json, look: Look) -> None:
    (mapping,) = body["fieldConfig"]["defaults"]["mappings"]
    for result, colour in zip(mapping["options"].values(), look.colours, strict=True):
        result["color"] = _COLOURS[colour]


def _finish_table(body: Json, given: Json) -> None:
    """Make a row for each value of the label ``key``; one column is sorted by, the largest value first."""
    columns = given["column"]
    body["options"]["sortBy"] = [{"displayName": given["sort"], "desc": True}]
    for target in body["targets"]:
        target["format"] = "table"
    names = {f"Value #{_ref(i)}": column["title"] for i, column in enumerate(columns)}
    body["transformations"] = [
        {"id": "joinByField", "options": {"byField": given["key"], "mode": "outer"}},
        {"id": "filterFieldsByName", "options": {"include": {"names": [given["key"], *names]}}},
        {"id": "organize", "options": {"excludeByName": {}, "indexByName": {}, "renameByName": names}},
    ]
    body["fieldConfig"]["overrides"] = [_override(one["title"], _look(one["look"])) for one in columns]


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


def _look(given: str | Json) -> Look:
    return Look(**(_NAMED[given] if isinstance(given, str) else given))


def _ref(index: int) -> str:
    return chr(ord("A") + index)


def _thresholds(look: Look) -> Json:
    steps = [{"color": _COLOURS[colour], "value": value} for value, colour in [(None, look.base), *look.steps]]
    return {"mode": "absolute", "steps": steps}


def _mappings(look: Look) -> list[Json]:
    options = {str(value): {"text": text, "index": value} for value, text in enumerate(look.words)}
    return [{"type": "value", "options": options}] if options else []
