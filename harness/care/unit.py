"""Root's unit on a machine that is a folder: ``dpkg-deb`` unpacks, a link leads to the program, signals restart it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from commonwatt.care.installing import (
    NEW,
    ORDER,
    VERDICT,
    Installing,
    Outside,
    Refused,
    architecture,
    read_state,
    since_boot,
)
from commonwatt.care.release import check
from commonwatt.config.files import check_file  # noqa: F401 - loaded before the program is replaced


class Machine:
    """A machine: its packages, program, gateway; ``task`` has their places."""

    def __init__(self, task: dict[str, Any]) -> None:
        self.folder, self.place = Path(task["folder"]), Path(task["place"])
        self.authority, self.by_hand, self.verdict_s = task["authority"], task["by_hand"], task["verdict_s"]

    def installed(self) -> str:
        return (self.folder / "status").read_text()

    def check(self, text: str, signature: str) -> None:
        check(text, signature, Path(self.authority).read_bytes())

    def install(self, package: Path) -> None:
        version = self.version_of(package)
        tree = self.folder / f"tree-{version}"
        shutil.rmtree(tree, ignore_errors=True)
        time.sleep(1)  # Faults can strike before and while it is unpacked.
        done = subprocess.run(["dpkg-deb", "-x", str(package), str(tree)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise Refused(done.stderr)
        link = self.folder / "current.new"
        link.unlink(missing_ok=True)
        link.symlink_to(tree)
        link.replace(self.folder / "current")
        (self.folder / "status").write_text(version)
        (self.folder / "stopped").unlink(missing_ok=True)
        self.restart()

    def restart(self) -> None:
        with suppress(OSError, ValueError):  # It is being started.
            os.kill(int((self.folder / "pid").read_text()), signal.SIGTERM)

    def repack(self, package: Path) -> None:
        shutil.copy(self.folder / "packages" / f"{self.installed()}.deb", package)

    def version_of(self, package: Path) -> str:
        if not package.exists():
            return ""
        words = ["dpkg-deb", "--field", str(package), "Version"]
        return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()

    def prepare_back(self, before: str) -> None:
        (self.folder / "stopped").touch()
        self.restart()
        time.sleep(5)
        if before.startswith("0.3"):
            words = program(self.folder, "gateway", "downgrade", "--config", str(self.place / "gateway.toml"))
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            print(done.stdout, done.stderr, flush=True)

    def runs(self) -> None:
        outside = Outside(
            check=self.check,
            architecture=architecture,
            installed=self.installed,
            version_of=self.version_of,
            is_newer=lambda one, other: (
                not subprocess.run(["dpkg", "--compare-versions", one, "gt", other], check=False).returncode
            ),
            install=self.install,
            repack=self.repack,
            prepare_back=self.prepare_back,
            verdicts=lambda: [read_state(self.place / "upgrade", VERDICT)],
            wait=time.sleep,
            now=since_boot,
        )
        unit = Installing(folder=self.folder / "root", outside=outside, verdict_s=self.verdict_s)
        unit.go_on()
        orders = self.place / "upgrade"
        if self.by_hand and not (self.folder / "begun").exists():
            (self.folder / "begun").touch()
            shutil.copy(self.folder / "packages" / f"{self.by_hand}.deb", unit.folder / NEW)
            unit.begin({"id": f"hand {time.time()}", "version": self.by_hand, "before": self.installed()})
            unit.go_on()
        while True:
            if (orders / ORDER).exists():
                unit.take(orders)
                (orders / ORDER).unlink(missing_ok=True)
                unit.go_on()
            time.sleep(0.5)


def program(folder: Path, *words: str) -> list[str]:
    """Return the command of the installed program, with this environment's libraries and the folder of its unit."""
    place = str(folder / "current" / "usr/lib/commonwatt")
    code = (
        f"import sys, pathlib; sys.path.insert(0, {place!r}); sys.dont_write_bytecode = True\n"
        "try:\n    import commonwatt.care.installing as i\n"
        f"    i.FOLDER = pathlib.Path({str(folder / 'root')!r})\n"
        "except ImportError: pass\n"
        "from commonwatt.__main__ import main; main()"
    )
    return [sys.executable, "-c", code, *words]


if __name__ == "__main__":
    Machine(json.loads(sys.argv[1])).runs()
