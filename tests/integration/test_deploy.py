"""A controller and a utility from the files and commands of docs/operations.md, started by their units' commands."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from commonwatt.cli.status import ask
from harness.network.waiting import ended, eventually, free_port
from harness.real.deploy import MOSQUITTO, commands, keys, office, register_step
from harness.real.mosquitto import command as mosquitto
from harness.real.postgres import Postgres

PROGRAM = [sys.executable, "-m", "commonwatt"]

UNITS = (
    "commonwatt-mosquitto@.service",
    "commonwatt-utility.service",
    "commonwatt-broker@.service",
    "commonwatt-gateway@.service",
)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Path]:
    """Return the folders of the page, with addresses and a database of this test in their settings."""
    with Postgres(tmp_path, durable=False) as server:
        site = office(tmp_path, PROGRAM)
        mqtt, head_end, *http = (f"127.0.0.1:{free_port()}" for _ in range(5))
        moved = {
            "r001/broker.toml": {"0.0.0.0:8883": mqtt, "127.0.0.1:9100": http[0]},
            "r001/gateway.toml": {
                "127.0.0.1:8883": mqtt,
                "utility.example:8883": head_end,
                "127.0.0.1:9101": http[1],
            },
            "head-end/broker.toml": {"0.0.0.0:8883": head_end},
            "utility/utility.toml": {"127.0.0.1:8883": head_end, "127.0.0.1:8080": http[2]},
        }
        for name, places in moved.items():
            text = (site / name).read_text()
            for place, here in places.items():
                assert place in text, f"{name} of the page has no {place} any more"
                text = text.replace(place, here)
            (site / name).write_text(
                text.replace("postgresql+psycopg:///commonwatt?host=/var/run/postgresql", server.url)
            )
        subprocess.run([*PROGRAM, *register_step(tmp_path / "town.toml", server.url)], check=True, timeout=60)
        yield site


@contextmanager
def started(unit: str, site: Path) -> Iterator[socket.socket]:
    """Start a unit's command, with systemd's environment; return the address of its /status."""
    own = keys(unit)
    *before, run = commands(unit, PROGRAM, site)
    folder = own["WorkingDirectory"][0].replace("/var/lib/commonwatt", str(site))
    for words in before:
        subprocess.run(words, check=True, capture_output=True, timeout=60, cwd=folder)
    if run[0] == MOSQUITTO:
        run = mosquitto(Path(run[-1]))
    environment = os.environ | dict(line.split("=", 1) for line in own["Environment"])
    for limit in own["WatchdogSec"]:
        environment["WATCHDOG_USEC"] = str(int(limit) * 1_000_000)
    # Not within the test's folder: a socket's path has at most 108 characters.
    with TemporaryDirectory() as short, closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as ear:
        environment["NOTIFY_SOCKET"] = f"{short}/notify"
        ear.bind(environment["NOTIFY_SOCKET"])
        ear.settimeout(60)
        process = subprocess.Popen(run, cwd=folder, env=environment, stderr=subprocess.DEVNULL)
        try:
            yield ear
        finally:
            process.terminate()
            code = ended(process, 10)
        assert code == 0, f"{unit} ended with {code}"


def test_what_the_units_start_gets_ready_and_finds_the_others(site: Path) -> None:
    with ExitStack() as stack:
        for unit in UNITS:
            ear = stack.enter_context(started(unit, site))
            assert b"READY=1" in ear.recv(500), unit
        gateway, utility = site / "r001" / "gateway.toml", site / "utility" / "utility.toml"
        eventually(lambda: ask(gateway)["connected"] == {"meters": True, "head_end": True})
        eventually(lambda: ask(utility)["head_end_connected"])
        assert ask(utility)["alarms"] == []
        # Its broker has the gateway registered besides the meters.
        assert ask(gateway)["meters"]["registered"] == ask(site / "r001" / "broker.toml")["devices"] - 1
