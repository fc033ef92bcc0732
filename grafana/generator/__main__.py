"""Write the dashboards' files: ``make dashboards``. Tests compare the files with the generator's output."""

import json
from pathlib import Path

from grafana.generator.panels import HERE, dashboard_json

FOLDER = HERE.parent / "dashboards"


def texts() -> dict[str, str]:
    """Return the content of each dashboard's file, by the file's name."""
    names = (path for path in sorted(HERE.glob("*.toml")) if path.name != "looks.toml")
    return {f"{path.stem}.json": _text(path) for path in names}


def _text(path: Path) -> str:
    return json.dumps(dashboard_json(path), indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Write every dashboard."""
    for name, text in texts().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
        print(f"grafana/dashboards/{name}")


if __name__ == "__main__":
    main()
