"""A real Prometheus with the shipped configuration and rules, only faster, for tests and for drawing."""

import json
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from harness.docs.generate import DOCS
from harness.network.waiting import eventually, free_port
from harness.real.parts import real_part

SHIPPED = DOCS.parent / "grafana" / "prometheus"


class Prometheus:
    """A server that scrapes the targets of a file.

    Args:
        folder: The folder of its data.
        targets: The file of its targets.
        every: Interval of scrapes, and of the evaluation of rules.
    """

    def __init__(self, folder: Path, targets: Path, *, every: str = "1s") -> None:
        config = yaml.safe_load((SHIPPED / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": every, "evaluation_interval": every}
        config["rule_files"] = [str(SHIPPED / name) for name in config["rule_files"]]
        config["scrape_configs"][0]["file_sd_configs"] = [{"files": [str(targets)]}]
        folder.mkdir()
        file = folder / "prometheus.json"
        file.write_text(json.dumps(config))
        self.address = f"127.0.0.1:{free_port()}"
        self._command = [
            str(real_part("prometheus")),
            f"--config.file={file}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={self.address}",
        ]
        self._log = folder / "log"

    def get(self, path: str, **parameters: str) -> Any:
        """Return the data of an API answer."""
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"http://{self.address}/api/v1/{path}?{query}", timeout=10) as answer:
            return json.load(answer)["data"]

    def ask(self, expr: str) -> list[dict[str, Any]]:
        """Return the samples of an instant query."""
        found: list[dict[str, Any]] = self.get("query", query=expr)["result"]
        return found

    def _answers(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        try:
            self.ask("1")
        except OSError:
            return False
        return True

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        eventually(self._answers)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
