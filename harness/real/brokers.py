"""Real brokers: ``commonwatt broker run`` with a test's devices, and Mosquitto with files of ours and of others."""

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from commonwatt.identity.devices import Device, DeviceRole, digest, new_token, save_devices
from harness.network.mqtt import PingPong, RawClient
from harness.network.waiting import ended, eventually, free_port
from harness.real import forks
from harness.real.parts import real_part


class BrokerProcess:
    """A broker process with registered gateways and their meters.

    Args:
        folder: The folder of its files.
        meters: Registered meters by gateway; the utility is registered too.
        settings: Further lines of its settings file.
        run_by: A command that starts it, such as one that sets limits first.
    """

    def __init__(
        self, folder: Path, meters: dict[str, list[str]], settings: str = "", run_by: Sequence[str] = ()
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port, self._http = free_port(), free_port()
        self.tokens: dict[str, str] = {}
        self._clients: list[RawClient] = []
        devices = [self._device("utility", DeviceRole.UTILITY, "")]
        for gateway, identities in meters.items():
            devices.append(self._device(gateway, DeviceRole.GATEWAY, gateway))
            devices += [self._device(identity, DeviceRole.METER, gateway) for identity in identities]
        save_devices(folder / "devices.json", devices)
        config = folder / "broker.toml"
        config.write_text(
            f'[broker]\nlisten = "127.0.0.1:{self.port}"\nhttp = "127.0.0.1:{self._http}"\n'
            f'devices = "{folder / "devices.json"}"\n{settings}\n'
        )
        self._log = folder / "broker.log"
        command = [*run_by, sys.executable, "-m", "commonwatt", "broker", "run", "--config", str(config)]
        self._log.unlink(missing_ok=True)
        self.process = forks.start(command, self._log)
        eventually(lambda: "listening" in self.log())

    def _device(self, identity: str, role: DeviceRole, microgrid: str) -> Device:
        token = self.tokens[identity] = new_token()
        return Device(identity=identity, role=role, microgrid=microgrid, token_sha256=digest(token.encode()))

    def connect(self, identity: str, keepalive_s: int = 0) -> RawClient:
        """Connect a client; closing the broker also closes it."""
        client = RawClient(self.port, identity, self.tokens[identity], keepalive_s)
        self._clients.append(client)
        return client

    def raw(self, data: bytes) -> socket.socket:
        """Connect, send ``data``, and return the open connection."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        connection.sendall(data)
        return connection

    def ping_pong(self, gateway: str, meter: str) -> PingPong:
        return PingPong(self.connect(meter), self.connect(gateway), gateway, meter)

    def log(self) -> str:
        assert self.process.poll() is None, self._log.read_text()
        return self._log.read_text()

    def metric(self, sample: str) -> float:
        """Return a sample of /metrics; ``sample`` is its name without the prefix, such as ``connections``."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._http}/metrics", timeout=20) as answer:
            text = answer.read().decode()
        match = re.search(rf"^commonwatt_broker_{re.escape(sample)} (\S+)$", text, re.MULTILINE)
        assert match, f"no {sample} in {text}"
        return float(match[1])

    def memory_bytes(self) -> int:
        """Return the resident memory of the process."""
        return int(Path(f"/proc/{self.process.pid}/status").read_text().split("VmRSS:")[1].split()[0]) * 1024

    def files(self) -> int:
        """Return the number of open files of the process."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def stop(self) -> str:
        """End it by SIGTERM; return its log, which must contain no internal error."""
        self.process.terminate()
        assert ended(self.process, 10) == 0, self._log.read_text()
        log = self._log.read_text()
        assert "Traceback" not in log, log[-5000:]
        return log

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._clients:
            client.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def command(config: Path) -> list[str]:
    """Return the command that runs a Mosquitto with a settings file.

    A Mosquitto started by root changes to a user that can't read a test's folder; then an outer file keeps it root.
    """
    if os.geteuid() == 0:
        around = config.parent / "as-root"
        around.write_text(f"user root\ninclude_dir {config.parent}\n")
        config = around
    return [str(real_part("mosquitto")), "-c", str(config)]


def open_to_all(folder: Path, host: str, port: int) -> list[str]:
    """Return the command that runs a Mosquitto with anonymous access, as in a foreign installation."""
    folder.mkdir()
    config = folder / "mosquitto.conf"
    config.write_text(f"listener {port} {host}\nallow_anonymous true\n")
    return command(config)


def render(broker: Path, out: Path) -> list[str]:
    """Write the files of a Mosquitto that replaces the broker of file ``broker``; return its command."""
    words = ["broker", "render", "mosquitto", "--config", str(broker), "--out", str(out)]
    forks.run([sys.executable, "-m", "commonwatt", *words], check=True)
    return command(out / "mosquitto.conf")


class Mosquitto:
    """A running Mosquitto.

    Args:
        run: Its command.
        log: The file of its output.
    """

    def __init__(self, run: list[str], address: tuple[str, int], log: Path) -> None:
        self._log = log
        with log.open("ab") as file:
            self._process = subprocess.Popen(run, stdout=file, stderr=file)
        eventually(lambda: self.log() is not None and listens(*address))

    def log(self) -> str:
        """Return its log; fail if it has ended."""
        assert self._process.poll() is None, self._log.read_text()
        return self._log.read_text()

    def reload(self) -> None:
        """Reload its devices, rules and certificates."""
        before = self.log().count("Reloading config")
        self._process.send_signal(signal.SIGHUP)
        eventually(lambda: self.log().count("Reloading config") > before)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, such as SIGSTOP: it then accepts connections and says nothing."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """Kill it by SIGKILL."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def listens(host: str, port: int) -> bool:
    """Return whether a server accepts connections at the address."""
    try:
        socket.create_connection((host, port)).close()
    except OSError:
        return False
    return True
