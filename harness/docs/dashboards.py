"""Grafana's dashboards as their files have them."""

import json
from typing import Any

from grafana.generator.__main__ import FOLDER


def dashboards() -> dict[str, dict[str, Any]]:
    """Return each dashboard by its name."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


def panels_of(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows and panels from top to bottom, with those inside folded rows."""
    return [each for panel in dashboard["panels"] for each in (panel, *panel.get("panels", ()))]
