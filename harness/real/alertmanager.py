"""A real Alertmanager for tests."""

import json
import os
import signal
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from harness.docs.marked import DOCS
from harness.real.parts import real_part
from harness.real.server import Server

SHIPPED = DOCS.parent / "grafana" / "prometheus" / "alertmanager.yml"  # the shipped example of routes


class RealAlertmanager(Server):
    """An Alertmanager with the shipped routes, on loopback, without a cluster.

    Args:
        folder: The folder of its data.
        address: HOST:PORT.
    """

    def __init__(self, folder: Path, address: str | None = None) -> None:
        super().__init__(folder, address)
        config = yaml.safe_load(SHIPPED.read_text())
        # Nothing listens for notifications.
        config["receivers"] = [{"name": receiver["name"]} for receiver in config["receivers"]]
        file = folder / "alertmanager.json"
        file.write_text(json.dumps(config))
        self._command = [
            str(real_part("prometheus-alertmanager")),
            f"--config.file={file}",
            f"--storage.path={folder / 'data'}",
            f"--web.listen-address={self.address}",
            "--cluster.listen-address=",
        ]

    def get(self, path: str) -> Any:
        """Return an answer of its API."""
        with urllib.request.urlopen(f"http://{self.address}/api/v2/{path}", timeout=10) as answer:
            return json.load(answer)

    def raise_alerts(self, *alerts: dict[str, Any]) -> None:
        """Send alerts, as Prometheus does."""
        request = urllib.request.Request(
            f"http://{self.address}/api/v2/alerts",
            json.dumps(alerts).encode(),
            {"Content-Type": "application/json"},
        )
        urllib.request.urlopen(request, timeout=10).close()

    def pause(self) -> None:
        """Stop it in the middle: connections open, no answer comes."""
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)  # Until it has stopped, it may answer once more.

    def resume(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    def _ask_something(self) -> None:
        self.get("status")
