"""Real Mosquitto brokers: with a foreign configuration, and with files from ``commonwatt broker render``."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Self

from harness.network.waiting import eventually
from harness.real.parts import real_part


def command(config: Path) -> list[str]:
    """Return what runs a Mosquitto from its settings as they are.

    Started by root it becomes another user, who can't read a test's folder; then a file around them keeps it root.
    """
    if os.geteuid() == 0:
        around = config.parent / "as-root"
        around.write_text(f"user root\ninclude_dir {config.parent}\n")
        config = around
    return [str(real_part("mosquitto")), "-c", str(config)]


def open_to_all(folder: Path, host: str, port: int) -> list[str]:
    """Return what runs a Mosquitto that knows nobody and refuses nothing, as found at somebody else's."""
    folder.mkdir()
    config = folder / "mosquitto.conf"
    config.write_text(f"listener {port} {host}\nallow_anonymous true\n")
    return command(config)


def render(broker: Path, out: Path) -> list[str]:
    """Write the files of a Mosquitto in place of the broker of file ``broker``; return what runs it."""
    words = ["broker", "render", "mosquitto", "--config", str(broker), "--out", str(out)]
    subprocess.run([sys.executable, "-m", "commonwatt", *words], check=True, capture_output=True)
    return command(out / "mosquitto.conf")


class Mosquitto:
    """A running one.

    Args:
        run: What runs it.
        address: Where it listens.
        log: Where its output goes.
    """

    def __init__(self, run: list[str], address: tuple[str, int], log: Path) -> None:
        self._log = log
        with log.open("ab") as file:
            self._process = subprocess.Popen(run, stdout=file, stderr=file)
        eventually(lambda: self.log() is not None and listens(*address))

    def log(self) -> str:
        """Return what it has logged; fail if it has ended."""
        assert self._process.poll() is None, self._log.read_text()
        return self._log.read_text()

    def reload(self) -> None:
        """Let it read its devices, rules and certificates again."""
        before = self.log().count("Reloading config")
        self._process.send_signal(signal.SIGHUP)
        eventually(lambda: self.log().count("Reloading config") > before)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


def listens(host: str, port: int) -> bool:
    """Return whether a server accepts connections at the address."""
    try:
        socket.create_connection((host, port)).close()
    except OSError:
        return False
    return True
