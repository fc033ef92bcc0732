"""Check the dashboards by Grafana's own types: ``make dashboard-types``. Needs node and npm; takes some seconds.

Each panel becomes a literal of TypeScript whose type is Grafana's for that kind of panel, so that the
compiler finds unknown names and wrong values. Not part of the test suite: npm downloads two packages.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.docs.metrics import dashboards, panels_of
from harness.real.parts import real_part

GRAFANA = "11.6"
TYPESCRIPT = "5.7"
PANELS = {
    "stat": "stat/panelcfg/x/StatPanelCfg_types.gen",
    "timeseries": "timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen",
    "table": "table/panelcfg/x/TablePanelCfg_types.gen",
    "state-timeline": "statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen",
}
WITHOUT_FIELDS = {"stat"}  # kinds of panels without options for single fields

# In JSON an enumeration of texts is its value, so `Plain` replaces enumerations by their values. A query
# is Record<string, unknown> there: tests/integration/test_grafana.py runs the queries on a Prometheus.
HEAD = """
import type { Dashboard, Panel, RowPanel } from '@grafana/schema';
type Plain<T> = 0 extends 1 & T ? any : T extends string ? `${T}` : T extends (infer U)[] ? Plain<U>[]
  : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;
type Drawn<K, O, F> = Plain<Omit<Panel<never, F>, 'options' | 'type'>> & { type: K; options: Plain<O> };
"""


def literal(value: Any) -> str:
    """Return a value as a literal of TypeScript."""
    return json.dumps(value, ensure_ascii=False)


def source_of(dashboard: dict[str, Any]) -> str:
    """Return the TypeScript that checks a dashboard."""
    lines = [HEAD]
    for kind, module in PANELS.items():
        name = alias(kind)
        lines.append(
            f"import type * as {name} from '../node_modules/@grafana/schema/dist/esm/raw/composable/{module}';"
        )
        fields = "{}" if kind in WITHOUT_FIELDS else f"{name}.FieldConfig"
        lines.append(f"type {name}Panel = Drawn<{literal(kind)}, {name}.Options, {fields}>;")
    for panel in panels_of(dashboard):
        kind = "Plain<RowPanel>" if panel["type"] == "row" else f"{alias(panel['type'])}Panel"
        lines.append(f"export const panel{panel['id']}: {kind} = {literal(panel)};")
    rest = {key: value for key, value in dashboard.items() if key != "panels"}
    lines.append(f"export const dashboard: Plain<Dashboard> = {literal(rest)};")
    return "\n".join(lines) + "\n"


def alias(kind: str) -> str:
    """Return a name for a kind of panel in TypeScript."""
    return re.sub(r"\W", "", kind.title())


def check(folder: Path, every: dict[str, dict[str, Any]]) -> str:
    """Check dashboards in a folder with the packages; return the errors, empty if there are none."""
    (folder / "src").mkdir(exist_ok=True)
    for name, dashboard in every.items():
        (folder / "src" / f"{name}.ts").write_text(source_of(dashboard))
    command = ["node_modules/.bin/tsc", "--strict", "--noEmit", "--skipLibCheck", "--target", "es2022"]
    command += ["--module", "esnext", "--moduleResolution", "bundler", *(f"src/{name}.ts" for name in every)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert bool(done.returncode) == bool(done.stdout), done.stderr
    return done.stdout


def install(folder: Path) -> None:
    """Install Grafana's types, and the compiler, into a folder."""
    (folder / "package.json").write_text('{"private": true}')
    packages = [f"@grafana/schema@{GRAFANA}", f"typescript@{TYPESCRIPT}"]
    subprocess.run(
        [real_part("npm"), "install", "--silent", "--no-audit", "--no-fund", *packages], cwd=folder, check=True
    )


def main() -> None:
    """Check every dashboard, and check that each planted mistake is found."""
    every = dashboards()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        install(folder)
        found = check(folder, every)
        for what, mistake in MISTAKES.items():
            wrong = json.loads(json.dumps(every["gateway"]))
            mistake(wrong)
            assert check(folder, {"wrong": wrong}), f"not found: {what}"
    print(found or f"{len(every)} dashboards fit the types of Grafana {GRAFANA}; {len(MISTAKES)} mistakes are found")
    sys.exit(bool(found))


def _first(dashboard: dict[str, Any], kind: str) -> dict[str, Any]:
    panel: dict[str, Any] = next(panel for panel in panels_of(dashboard) if panel["type"] == kind)
    return panel


MISTAKES: dict[str, Callable[[dict[str, Any]], object]] = {
    "an option there is not": lambda d: _first(d, "stat")["options"].update(colourMode="value"),
    "an option of a wrong value": lambda d: _first(d, "stat")["options"].update(graphMode="lines"),
    "an option that is missing": lambda d: _first(d, "timeseries")["options"].pop("legend"),
    "a wrong field option": lambda d: _first(d, "timeseries")["fieldConfig"]["defaults"]["custom"].update(
        lineWidth="1"
    ),
    "a wrong place": lambda d: _first(d, "state-timeline")["gridPos"].update(w="8"),
    "a wrong threshold": lambda d: _first(d, "stat")["fieldConfig"]["defaults"]["thresholds"].update(mode="relative"),
    "a key there is not": lambda d: d.update(tag=["commonwatt"]),
    "a wrong variable": lambda d: d["templating"]["list"][0].update(hide=7),
}


if __name__ == "__main__":
    main()
