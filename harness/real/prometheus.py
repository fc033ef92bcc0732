"""Servers of others on loopback: a process of its own, and Prometheus with the shipped rules, only faster."""

import json
import subprocess
import urllib.parse
import urllib.request
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from harness.docs.marked import DOCS
from harness.network.waiting import eventually, free_port
from harness.real.parts import real_part


class Server(ABC):
    """A server that runs while it is entered, and answers when it is.

    Args:
        folder: The folder of its data and its log; made if it is missing.
        address: HOST:PORT; by default a free port.
    """

    _command: list[str]
    _process: subprocess.Popen[bytes]

    def __init__(self, folder: Path, address: str | None = None) -> None:
        folder.mkdir(exist_ok=True)
        self.address = address or f"127.0.0.1:{free_port()}"
        self._log = folder / "log"

    @abstractmethod
    def _ask_something(self) -> None:
        """Ask what it answers once it runs."""

    def _answers(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        try:
            self._ask_something()
        except OSError:
            return False
        return True

    def __enter__(self) -> Self:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        eventually(self._answers)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()


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
