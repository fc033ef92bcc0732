"""``commonwatt broker run`` as a process: what it says, and how it ends."""

import contextlib
import json
import signal
import socket
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from commonwatt.identity.devices import Device, DeviceRole, digest, save_devices
from harness.network.mqtt import PINGREQ_PACKET, RawClient
from harness.network.waiting import ended, eventually, free_port
from harness.real import forks

WAIT_S = 30.0
BROKER = [sys.executable, "-c", "from broker.cli import app; app()"]
TOKEN = b"its-token"


class Command:
    """The command with a file of its own."""

    def __init__(self, folder: Path, text: str) -> None:
        config = folder / "broker.toml"
        config.write_text(text)
        self._out, self._errors = folder / "out", folder / "errors"
        self.process = forks.start([*BROKER, "run", "--config", str(config)], self._out, self._errors)

    def first_line(self) -> str:
        eventually(lambda: "\n" in self._out.read_text())
        return self._out.read_text().splitlines(keepends=True)[0]

    def finish(self, within_s: float = WAIT_S) -> tuple[int, str]:
        return ended(self.process, within_s), self._errors.read_text()


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Callable[[str], Command]]:
    started: list[Command] = []

    def start(text: str) -> Command:
        started.append(Command(tmp_path, text))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.process.kill()
        each.process.wait()


def register(folder: Path) -> None:
    meter = Device(identity="1", role=DeviceRole.METER, microgrid="r001", token_sha256=digest(TOKEN))
    save_devices(folder / "devices.json", [meter])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_broker_says_where_it_listens_and_stops_within_5_s(
    tmp_path: Path, command: Callable[[str], Command], number: signal.Signals
) -> None:
    register(tmp_path)
    port, http = free_port(), free_port()
    broker = command(f'[broker]\nlisten = "127.0.0.1:{port}"\ndevices = "devices.json"\nhttp = "127.0.0.1:{http}"\n')
    assert broker.first_line() == f"broker listening on 127.0.0.1:{port}, 1 devices\n"
    with (
        RawClient(port, "1", TOKEN.decode()) as meter,
        socket.create_connection(("127.0.0.1", port)),
    ):  # The other stays silent.
        with urllib.request.urlopen(f"http://127.0.0.1:{http}/metrics", timeout=WAIT_S) as answer:
            metrics = answer.read().decode()
        assert "commonwatt_broker_connections 1.0" in metrics
        for watched in ("accepting", "passing_on", "checking"):
            assert f'commonwatt_broker_stuck_total{{what="{watched}"}} 0.0' in metrics
        with urllib.request.urlopen(f"http://127.0.0.1:{http}/status", timeout=WAIT_S) as answer:
            assert json.load(answer)["connections"] == 1
        broker.process.send_signal(number)
        status, errors = broker.finish(within_s=5)
        assert meter.receive() is None
    assert (status, "Traceback" in errors) == (0, False)


def test_the_broker_stops_within_5_s_though_a_client_reads_nothing(
    tmp_path: Path, command: Callable[[str], Command]
) -> None:
    register(tmp_path)
    port = free_port()
    broker = command(f'[broker]\nlisten = "127.0.0.1:{port}"\n')
    broker.first_line()
    with RawClient(port, "1", TOKEN.decode()) as meter:
        meter.sock.settimeout(0.5)
        with contextlib.suppress(TimeoutError):
            while True:  # Pings whose answers are never read, until both directions are full.
                meter.send(PINGREQ_PACKET * 50_000)
        broker.process.send_signal(signal.SIGTERM)
        status, errors = broker.finish(within_s=5)
    assert (status, "Traceback" in errors) == (0, False)


def test_the_broker_says_that_its_port_is_taken(tmp_path: Path, command: Callable[[str], Command]) -> None:
    register(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        status, errors = command(f'[broker]\nlisten = "{address}"\n').finish()
    assert status == 1
    assert f"can't listen on {address}" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(("text", "named"), [("[broker]\nport = 1\n", "port"), ("[broker]\n", "devices.json")])
def test_the_broker_names_what_is_wrong_in_its_files(command: Callable[[str], Command], text: str, named: str) -> None:
    status, errors = command(text).finish()
    assert status == 2
    assert named in errors
    assert "Traceback" not in errors


def test_the_help_says_who_may_connect_and_how() -> None:
    help_text = forks.run([*BROKER, "run", "--help"], check=True).stdout
    help_text = " ".join(help_text.replace("│", " ").split())
    assert "commonwatt utility register" in help_text
    assert "--config" in help_text
