"""Write the dashboards' files: ``make dashboards``. Tests compare the files with the generator's output."""

import json
from pathlib import Path

from grafana.generator.billing import BILLING
from grafana.generator.delivery import DELIVERY
from grafana.generator.gateway import GATEWAY
from grafana.generator.microgrid import MICROGRID
from grafana.generator.panel_kinds import Dashboard, dashboard_json
from grafana.generator.supply import SUPPLY
from grafana.generator.town import TOWN

FOLDER = Path(__file__).resolve().parents[1] / "dashboards"
DASHBOARDS = (TOWN, DELIVERY, MICROGRID, GATEWAY, SUPPLY, BILLING)


def text_of(dashboard: Dashboard) -> str:
    """Return the content of a dashboard's file."""
    return json.dumps(dashboard_json(dashboard), indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Write every dashboard."""
    for dashboard in DASHBOARDS:
        path = FOLDER / f"{dashboard.name}.json"
        path.write_text(text_of(dashboard), encoding="utf-8")
        print(f"grafana/dashboards/{path.name}")


if __name__ == "__main__":
    main()
