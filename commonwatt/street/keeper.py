"""The street's supervisor: a process of few megabytes that keeps the parts running, and takes changes of the site file.

What needs more memory, such as making files from the site file, is done by processes that end.
"""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from commonwatt.runtime.supervisor import SupervisedPart, Supervisor, start_part, stopped_by_signals
from commonwatt.runtime.systemd import notifier

_LOOK_S = 0.3  # real seconds between two looks at the parts and the files
_AGAIN_S = 60.0  # real seconds until a change is tried again that failed, such as on a full disk
_DAY_S = 86_400.0  # real seconds until all files are made again: certificates are renewed
_HOUR_S = 3600.0  # real seconds until a nightly backup is tried again that failed
_NIGHT = "02"  # local hour from which the day's backup is made
_NOW_FILE = "backup-now"  # a page asks by this file for a backup at once
_LOG_BYTES = 5_000_000  # most bytes of a log, beside as many of before
_WATCHED = ("site.toml", "*/*.password", "devices/mosquitto.conf")  # what pages change


class Keeper:
    """Keeps a street running.

    Args:
        folder: The street's folder, which is prepared.
        pages: Where a person opens the pages; the first administrator's link if the file ``first-login`` is there.
    """

    def __init__(self, folder: Path, pages: str) -> None:
        self._folder = folder
        self._pages = pages
        self._supervisor = Supervisor(folder / "processes.json")
        self._taken: dict[str, dict[str, Any]] = {}
        self._systemd = notifier()
        self._seen = self._digest()
        self._workers: dict[str, subprocess.Popen[bytes]] = {}  # by the module that runs
        self._make_at = time.monotonic() + _DAY_S
        self._save_at = time.monotonic()

    def run(self, stop: threading.Event) -> list[str]:
        """Run until stopped; return the names of parts that had to be killed."""
        is_said = False
        self._take()
        while not stop.wait(_LOOK_S):
            self._supervisor.watch()
            self._systemd.tell("WATCHDOG=1")
            with suppress(OSError):  # Such as a full disk: the parts run on.
                self._look()
            if not is_said and (is_said := self._answers()):
                print(self._words(), flush=True)
                self._systemd.tell("READY=1")
        self._systemd.tell("STOPPING=1")
        print("the street ends; the same command starts it again where it was", flush=True)
        for worker in self._workers.values():
            worker.terminate()
            worker.wait()
        self._let_go_on()
        return self._supervisor.stop()

    def _look(self) -> None:
        """Take what was made, and have made what is due."""
        for module, worker in list(self._workers.items()):
            if worker.poll() is None:
                continue
            del self._workers[module]
            if module == "backup":
                self._let_go_on()
            else:
                self._make_at = time.monotonic() + _AGAIN_S
                if worker.returncode == 0:
                    if fault := json.loads((self._folder / "applied.json").read_bytes())["fault"]:
                        print(f"{fault}\nThe street runs on with what it had before.", flush=True)
                    self._take()
                    self._make_at = time.monotonic() + _DAY_S
        seen = self._digest()
        if "folder" not in self._workers and (seen != self._seen or time.monotonic() >= self._make_at):
            self._work("folder")
            self._seen = seen
            self._trim_logs()
        if "backup" not in self._workers and self._backup_is_due(self._save_at):
            (self._folder / _NOW_FILE).unlink(missing_ok=True)
            self._save_at = time.monotonic() + _HOUR_S
            self._work("backup")

    def _digest(self) -> bytes:
        files = [file for pattern in _WATCHED for file in sorted(self._folder.glob(pattern))]
        return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).digest()

    def _work(self, module: str) -> None:
        """Start a module of this room: ``folder`` makes all files from the site file, ``backup`` a backup."""
        command = (sys.executable, "-m", f"commonwatt.street.{module}", str(self._folder))
        log = self._folder / "logs" / f"{module}.log"
        part = SupervisedPart(name=module, kind="work", config=self._folder, http=None, log=log, command=command)
        self._workers[module] = start_part(part)

    def _backup_is_due(self, nightly_from: float) -> bool:
        """Return whether a backup was asked for, or tonight's is missing; that one not before a monotonic time."""
        if not (self._folder / "backup-key").exists():
            return False
        made = self._folder / "backups" / f"street-{time.strftime('%Y-%m-%d')}.cwb"
        is_missing = time.strftime("%H") >= _NIGHT and not made.exists()
        return (self._folder / _NOW_FILE).exists() or (is_missing and time.monotonic() >= nightly_from)

    def _let_go_on(self) -> None:
        """Let the parts go on that a backup stopped for a moment, and was killed."""
        for running in self._supervisor.running.values():
            running.process.send_signal(signal.SIGCONT)

    def _take(self) -> None:
        """Start the listed parts; those whose files changed start again, and those that are gone end."""
        listed = {each["part"]["name"]: each for each in json.loads((self._folder / "parts.json").read_text())}
        running = self._supervisor.running
        self._supervisor.end(
            [name for name, each in self._taken.items() if listed.get(name) != each and name in running]
        )
        self._supervisor.start(_part_of(each["part"]) for name, each in listed.items() if name not in running)
        self._taken = listed

    def _answers(self) -> bool:
        host, _, port = self._taken["utility"]["part"]["http"].rpartition(":")
        try:
            with socket.create_connection((host.strip("[]"), int(port)), 1.0) as sock:
                # It accepts connections before it has written the first link.
                sock.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
                return bool(sock.recv(1))
        except OSError:
            return False

    def _words(self) -> str:
        path = self._folder / "utility" / "first-login"
        if not path.exists():
            return f"your street: {self._pages}"
        if "INVOCATION_ID" in os.environ:  # Its log is kept by the system, and others may read that.
            return f"your street: {self._pages}; its first link: commonwatt street --link --site {self._folder}"
        link = path.read_text().strip().split("/", 3)[3]
        return f"open this link, which works once, and set up your street:\n{self._pages}{link}"

    def _trim_logs(self) -> None:
        for log in (self._folder / "logs").glob("*.log"):
            if log.stat().st_size > _LOG_BYTES:
                with log.open("rb") as file:
                    file.seek(-_LOG_BYTES, os.SEEK_END)
                    log.with_suffix(".before").write_bytes(file.read())
                os.truncate(log, 0)


def _part_of(stated: dict[str, Any]) -> SupervisedPart:
    paths = {key: Path(stated[key]) for key in ("config", "log")}
    return SupervisedPart(**stated | paths | {"command": tuple(stated["command"])})


def main() -> None:
    """Keep the street of a folder running until Ctrl-C or SIGTERM."""
    with stopped_by_signals() as stop:
        for name in Keeper(Path(sys.argv[1]), sys.argv[2]).run(stop):
            print(f"{name} did not end in time and was killed", file=sys.stderr)


if __name__ == "__main__":
    main()
