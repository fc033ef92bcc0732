"""A host of three controllers with real brokers: what becomes of the others when the disk of one fails."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from commonwatt.doctor.running import fetch_status
from commonwatt.runtime.supervisor import free_ports
from harness.network.waiting import ended, eventually
from harness.real import forks
from harness.real.site import STOP_WITHIN_S, Site, sound
from harness.real.slow_disk import HANGS
from tests.integration.test_damage import damage
from tests.integration.test_full_disk import fill, small_disk

NAMES = ("r001", "r002", "r003")
TOWN = "".join(f'[[microgrid]]\nid = "{name}"\nkind = "residential"\nhouses = 2\n' for name in NAMES)
RUN = [sys.executable, "-c", "from harness.real.slow_disk import main; main()", "gateway", "host"]


class Host:
    """The process of the host beside a site."""

    def __init__(self, site: Site) -> None:
        self.config = site.folder / "host" / "host.toml"
        self.log = site.folder / "logs" / "host.log"
        self.http = f"127.0.0.1:{free_ports(1)[0]}"
        self.config.parent.mkdir()
        keys = f'controllers = {json.dumps(NAMES)}\nhttp = "{self.http}"\nclock = "../clock.json"\n'
        self.config.write_text(f"[host]\n{keys}")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = forks.start([*RUN, "--config", str(self.config)], self.log)
        eventually(lambda: all(line["state"] == "running" for line in self.lines().values()) and self.lines())

    def lines(self) -> dict[str, dict[str, Any]]:
        """Return the line of each controller; empty while the host does not answer."""
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        try:
            found: dict[str, dict[str, Any]] = fetch_status(self.http, None, {})["controllers"]
        except OSError:
            return {}
        return found

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        assert ended(self.process, STOP_WITHIN_S) == 0, self.log.read_text()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk") as folder:
        yield folder


def test_a_hanging_a_full_and_a_damaged_disk_each_stop_one_controller_and_not_the_others(
    tmp_path: Path, disk: Path
) -> None:
    with Site(tmp_path / "town", TOWN, speed=30) as site:
        full = site.layout.part("r002 gateway").config
        full.write_text(full.read_text().replace("[gateway]", f'[gateway]\nstore = "{disk}/gateway.db"'))
        host = Host(site)

        def stored(name: str) -> int:
            records = (site.status(f"{name} gateway") or {"records": {}})["records"]
            return sum(records.values())

        def go_on(*names: str) -> None:
            """Wait until the meters of these microgrids are acknowledged further records."""
            before = {name: stored(name) for name in names}
            eventually(lambda: all(stored(name) > before[name] + 20 for name in names))

        site.start("head-end", "utility", *(f"{name} broker" for name in NAMES), "meters")
        host.start()
        try:
            go_on(*NAMES)
            examined = subprocess.run(
                [sys.executable, "-m", "commonwatt", "doctor", "--config", str(host.config)],
                capture_output=True,
                text=True,
                check=False,
            )
            assert examined.returncode == 0, examined.stdout
            assert all(f"good     {name}: " in examined.stdout for name in ("controllers", *NAMES)), examined.stdout
            hangs = site.folder / "r001" / HANGS
            hangs.touch()
            eventually(lambda: host.lines()["r001"]["state"] == "slow")
            go_on("r002", "r003")
            fill(disk / "filler")
            eventually(lambda: (site.status("r002 gateway") or {}).get("store", {}).get("refusing"))
            go_on("r003")
            hangs.unlink()
            go_on("r001", "r003")
            (disk / "filler").unlink()
            go_on(*NAMES)
            host.kill()
            host.start()
            go_on(*NAMES)
            host.stop()
            damage(site.folder / "r003" / "gateway.db")
            host.start()
            go_on(*NAMES)
            assert "is damaged" in host.log.read_text()
            site.stop("meters")
            host.stop()
        finally:
            if host.process is not None and host.process.poll() is None:
                host.kill()
        sound(tmp_path / "town")


def test_a_store_is_of_one_process_and_a_controller_without_it_is_tried_again(tmp_path: Path) -> None:
    with Site(tmp_path / "town", TOWN, speed=30) as site:
        host = Host(site)
        site.start("r001 gateway")
        host.process = forks.start([*RUN, "--config", str(host.config)], host.log)
        try:
            eventually(lambda: host.lines().get("r002", {}).get("state") == "running")
            eventually(lambda: "another gateway is using it" in host.lines()["r001"]["why"])
            assert host.lines()["r001"]["state"] == "stopped"
            site.stop("r001 gateway")
            eventually(lambda: host.lines()["r001"]["state"] == "running")
            command = site.layout.part("r001 gateway").command
            refused = subprocess.run(command, capture_output=True, text=True, check=False)
            assert refused.returncode == 2
            assert "another gateway is using it" in refused.stderr
            host.stop()
        finally:
            if host.process.poll() is None:
                host.kill()
