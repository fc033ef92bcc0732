"""A real Prometheus with the shipped configuration and rules, only faster, for tests and for drawing."""

import json
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from harness.docs.marked import DOCS
from harness.real.parts import real_part
from harness.real.server import Server

SHIPPED = DOCS.parent / "grafana" / "prometheus"


class Prometheus(Server):
    """A server that scrapes the targets of a file.

    Args:
        folder: The folder of its data.
        targets: The file of its targets.
        every: Interval of scrapes, and of the evaluation of rules.
    """

    def __init__(self, folder: Path, targets: Path, *, every: str = "1s") -> None:
        super().__init__(folder)
        self._folder, self._every = folder, every
        config = yaml.safe_load((SHIPPED / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": every, "evaluation_interval": every}
        config["rule_files"] = [str(self._hasty(name)) for name in config["rule_files"]]
        config["scrape_configs"][0]["file_sd_configs"] = [{"files": [str(targets)]}]
        file = folder / "prometheus.json"
        file.write_text(json.dumps(config))
        self._command = [
            str(real_part("prometheus")),
            f"--config.file={file}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={self.address}",
        ]

    def _hasty(self, name: str) -> Path:
        """Write a file of rules that wait for one interval, where the shipped ones wait for minutes."""
        groups = yaml.safe_load((SHIPPED / name).read_text())["groups"]
        for rule in (rule for group in groups for rule in group["rules"]):
            rule["for"] = self._every
        file = self._folder / name
        file.write_text(json.dumps({"groups": groups}))
        return file

    def get(self, path: str, **parameters: str) -> Any:
        """Return the data of an API answer."""
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"http://{self.address}/api/v1/{path}?{query}", timeout=10) as answer:
            return json.load(answer)["data"]

    def ask(self, expr: str) -> list[dict[str, Any]]:
        """Return the samples of an instant query."""
        found: list[dict[str, Any]] = self.get("query", query=expr)["result"]
        return found

    def _ask_something(self) -> None:
        self.ask("1")
