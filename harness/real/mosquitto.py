"""Real Mosquitto brokers: with a foreign configuration, and with files from ``commonwatt broker render``."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Self

from harness.network.waiting import eventually
from harness.real import forks
from harness.real.parts import real_part


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
