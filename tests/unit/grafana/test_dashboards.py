"""What can be said of the dashboards without Grafana; `make dashboard-types` checks them by Grafana's own types."""

import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from commonwatt.look.palette import LINES, LOOKS, STATES, SURFACES
from grafana.generator.__main__ import FOLDER, texts
from harness.docs.metrics import all_metrics, dashboards, panels_of

FILES = dashboards()
PANELS = [
    pytest.param(name, panel, id=f"{name}: {panel['title']}")
    for name, dashboard in FILES.items()
    for panel in panels_of(dashboard)
    if panel["type"] != "row"
]
UNITS = {"short", "s", "bytes", "decbytes", "Bps", "percentunit", "watt", "watth"}
"""Of Grafana's ids of units, those that are used here."""

SUFFIXES = ("_bucket", "_sum", "_count")


def test_files_are_what_is_built() -> None:
    assert {path.name: path.read_text() for path in FOLDER.iterdir()} == texts(), "run make dashboards"


@pytest.mark.parametrize("name", FILES)
def test_dashboard_has_an_address_of_its_own_and_no_panel_over_another(name: str) -> None:
    dashboard = FILES[name]
    assert dashboard["uid"] == f"commonwatt-{name}"
    assert "id" not in dashboard, "Grafana gives it"
    panels = panels_of(dashboard)
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)
    for seen in (dashboard["panels"], *(panel["panels"] for panel in panels if panel["type"] == "row")):
        for a, b in combinations((panel["gridPos"] for panel in seen), 2):
            assert (
                a["x"] + a["w"] <= b["x"]
                or b["x"] + b["w"] <= a["x"]
                or a["y"] + a["h"] <= b["y"]
                or b["y"] + b["h"] <= a["y"]
            )


@pytest.mark.parametrize("name", FILES)
def test_the_answer_is_on_top_the_reason_below_and_details_last(name: str) -> None:
    kinds = [panel["type"] for panel in FILES[name]["panels"]]
    answer = kinds.index("row")
    details = [panel["title"] for panel in FILES[name]["panels"]].index("Details")
    assert set(kinds[:answer]) == {"stat"}
    assert sum(panel["gridPos"]["w"] for panel in FILES[name]["panels"][:answer]) == 24
    assert set(kinds[answer:details]) - {"row"} <= {"timeseries", "state-timeline"}
    folded = [panel["title"] for panel in FILES[name]["panels"] if panel.get("collapsed")]
    assert folded == [panel["title"] for panel in FILES[name]["panels"][details + 1 :] if panel["type"] == "row"]


def test_every_colour_is_of_the_palette() -> None:
    palette = {shade.dark for shade in (*LOOKS.values(), *STATES.values(), *SURFACES.values(), *LINES)}
    assert {colour for text in texts().values() for colour in re.findall("#[0-9a-f]{6}", text)} <= palette


def thresholds(panel: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
    yield panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    for override in panel["fieldConfig"]["overrides"]:
        yield from (p["value"]["steps"] for p in override["properties"] if p["id"] == "thresholds")


@pytest.mark.parametrize(("name", "panel"), PANELS)
def test_panel_says_what_it_shows_and_what_to_do(name: str, panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert len(panel["description"].split()) >= 5
    assert panel["description"].endswith((".", "?"))
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    for steps in thresholds(panel):
        assert steps[0]["value"] is None
        values = [step["value"] for step in steps[1:]]
        assert values == sorted(set(values))
    if panel["type"] == "timeseries":
        assert all(target["legendFormat"] != "__auto" for target in panel["targets"])
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"]) > 0


@pytest.mark.parametrize(("name", "panel"), PANELS)
def test_panel_asks_for_metrics_labels_and_variables_that_exist(name: str, panel: dict[str, Any]) -> None:
    known = {info.name: set(info.labels) for metrics in all_metrics().values() for info in metrics}
    variables = {variable["name"] for variable in FILES[name]["templating"]["list"]}
    for target in panel["targets"]:
        assert target["datasource"]["uid"] == "${datasource}"
        for pattern in re.findall(r'__name__=~"([^"]+)"', target["expr"]):
            assert any(re.fullmatch(pattern, metric) for metric in known), pattern
        for metric in re.findall(
            r"\b(?:commonwatt|process)_[a-z_]+\b", re.sub(r'__name__=~"[^"]+"', "", target["expr"])
        ):
            base = next((metric.removesuffix(s) for s in SUFFIXES if metric.endswith(s)), metric)
            assert metric in known or base in known, metric
        assert set(re.findall(r"\$([a-z]\w*)", target["expr"])) <= variables
        for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
            assert label in {"place", "part"}.union(*known.values())


def test_provisioning_finds_the_dashboards_and_the_source() -> None:
    folder = FOLDER.parent / "provisioning"
    (source,) = yaml.safe_load((folder / "datasources" / "commonwatt.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((folder / "dashboards" / "commonwatt.yml").read_text())["providers"]
    assert source["type"] == "prometheus"
    assert source["isDefault"]
    here = provider["options"]["path"].replace("$COMMONWATT_GRAFANA", str(FOLDER.parent))
    assert Path(here) == FOLDER
    prometheus = yaml.safe_load((FOLDER.parent / "prometheus" / "prometheus.yml").read_text())
    assert source["jsonData"]["timeInterval"] == prometheus["global"]["scrape_interval"]
