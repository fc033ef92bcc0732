"""A town whose microgrids share Mosquittos and hosts, with a PostgreSQL of its own, as real processes."""

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from commonwatt.audit.folder import DATABASE
from harness.chaos import has_begun
from harness.network.waiting import eventually
from harness.real.parts import real_part
from tests.integration.test_town import COMMONWATT, PERFECT, amiss

TOWN = """
[[microgrid]]
id = "r"
kind = "residential"
count = 22
houses = 4

[[microgrid]]
id = "apt"
kind = "apartment"
buildings = 1
apartments = 4

[[microgrid]]
id = "pub"
kind = "public"
"""
KILLED = ("host 1", "broker 2", "database", "host 3")
SPEED, FOR_S = 6, 30  # town seconds in a real one; three minutes of the town


def pids(data: Path) -> dict[str, int]:
    found: dict[str, int] = json.loads((data / "processes.json").read_text())
    return found


def is_another(data: Path, name: str, before: int) -> bool:
    return pids(data)[name] != before


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that PostgreSQL's user can enter; pytest's own are for one user alone."""
    with tempfile.TemporaryDirectory() as name:
        (folder := Path(name)).chmod(0o755)
        yield folder


def test_three_hosts_of_24_gateways_lose_nothing_while_their_processes_are_killed(folder: Path) -> None:
    real_part("mosquitto")
    real_part("initdb")
    data, report, log = folder / "data", folder / "report.json", folder / "log"
    (town := folder / "town.toml").write_text(TOWN)
    words = ["demo", "--town", str(town), "--data", str(data), "--report", str(report)]
    words += ["--speed", str(SPEED), "--for", f"{FOR_S}s"]
    with log.open("wb") as file:
        demo = subprocess.Popen([*COMMONWATT, *words], stdout=file, stderr=file)
    try:
        eventually(lambda: demo.poll() is not None or has_begun(data), within_s=600)
        for name in KILLED:
            assert demo.poll() is None, log.read_text()
            before = pids(data)[name]
            with pytest.raises(subprocess.TimeoutExpired):
                demo.wait(FOR_S / (len(KILLED) + 2))
            os.kill(before, signal.SIGKILL)
            eventually(partial(is_another, data, name, before))
        demo.wait(240)
    finally:
        if demo.poll() is None:
            demo.send_signal(signal.SIGINT)
            demo.wait(60)
    assert demo.returncode == 0, log.read_text()
    found = json.loads(report.read_text())
    assert amiss(found) == PERFECT, log.read_text()
    assert found["slots_held"] == 0
    assert found["records_made"] > 24 * 10 * 8
    again = subprocess.run([*COMMONWATT, "audit", "--data", str(data), "--json"], capture_output=True, check=False)
    assert again.returncode == 0, again.stderr.decode()
    assert not pids(data), "everything has ended"
    assert not (data / DATABASE / "postmaster.pid").exists()
