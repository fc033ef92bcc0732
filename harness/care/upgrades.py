"""Upgrade a real gateway while things fail; each time it must end in the old or the new release, with all data.

``python -m harness.care.upgrades KIND N``: KIND is ``0.3`` or ``before`` (by hand: they have no command), ``afar``
(the utility's command, fetched as a difference), or ``planted`` (releases that start and then fail). The program's disk
is a small tmpfs, which really fills up; a power cut kills gateway, broker and unit at once.
"""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from commonwatt.care import release as releases
from commonwatt.care.installing import ORDER, RESULT, STATE, read_state
from commonwatt.identity.authority import Authority
from deploy.debian.wheels import PROJECT
from harness.care.unit import program
from harness.network.waiting import eventually, free_port
from harness.real.releases import RELEASE_0_3, old_release
from harness.real.site import Site, audited
from utility.access.actor import on_machine
from utility.care.store.packages import publish, release_of
from utility.database.database import open_database
from utility.fleet import decisions as rollout
from utility.fleet.store import rollouts as store

TOWN = '[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 2\npush_share = 1.0\n'
BEFORE = "a3c0d567"  # a commit before this one that has no upgrade from afar
VERDICT_S = 60.0  # real seconds for a verdict
ENDS_WITHIN_S = 240.0  # real seconds within which an upgrade ends, faults included
DISK = "120m"  # size of the program's disk
FAULTS = ("none", "kill gateway", "kill unit", "power cut", "cut line", "full disk")
FIRST = {"0.3": "0.3.0", "before": "0.4.0~before", "afar": "0.4.0", "planted": "0.4.0"}
NEXT = {"0.3": ["0.4.1"], "before": ["0.4.1"], "afar": ["0.4.1"], "planted": ["0.4.2", "0.4.3", "0.4.4"]}
NEW_BYTES = 400_000  # bytes of the release from afar that the one before does not have: seven pieces
PLANTED = {
    "0.4.2": (
        "gateway/cli.py",
        "\nimport threading, os\n_t = threading.Timer(15, os._exit, [3])\n_t.daemon = True\n_t.start()\n",
    ),
    "0.4.3": (
        "gateway/collect/collector.py",
        "\nCollector.put = lambda *_: (_ for _ in ()).throw(ValueError('planted'))\n",
    ),
    "0.4.4": ("gateway/store/tables.py", "\nraise RuntimeError('planted')\n"),
}
"""Releases that end after 15 s, that serve no meter, that do not start: what is appended to which module."""

PARTS = ("adapters", "broker", "commonwatt", "gateway", "meter_sim", "utility")


def tree_of(version: str, folder: Path) -> Path:
    """Make the code of a version, as installed."""
    if version in ("0.3.0", FIRST["before"]):
        made = old_release(RELEASE_0_3 if version == "0.3.0" else BEFORE, folder / f"code-{version}")
        for path in [each for each in made.iterdir() if each.name not in PARTS and each.suffix != ".dist-info"]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    else:
        made = folder / f"code-{version}"
        made.mkdir()
        for name in PARTS:
            shutil.copytree(PROJECT / name, made / name, ignore=shutil.ignore_patterns("__pycache__", "*.map"))
        (made / "commonwatt.dist-info").mkdir()
        for path in (PROJECT / "tests").parent.glob(
            ".venv/lib/*/site-packages/commonwatt-*.dist-info/entry_points.txt"
        ):
            shutil.copy(path, made / "commonwatt.dist-info" / "entry_points.txt")
    (info,) = made.glob("*.dist-info")
    (info / "METADATA").write_text(f"Name: commonwatt\nVersion: {version}\n")
    if version == NEXT["afar"][0]:
        (made / "commonwatt" / "libraries.bin").write_bytes(random.Random(1).randbytes(NEW_BYTES))
    if version in PLANTED:
        module, code = PLANTED[version]
        with (made / module).open("a") as file:
            file.write(code)
    return made


def package_of(version: str, folder: Path, packages: Path) -> None:
    root = folder / f"root-{version}"
    shutil.copytree(tree_of(version, folder), root / "usr/lib/commonwatt")
    (root / "DEBIAN").mkdir()
    control = (
        f"Package: commonwatt-controller\nVersion: {version}\nArchitecture: amd64\nMaintainer: x\nDescription: x\n"
    )
    (root / "DEBIAN/control").write_text(control)
    words = ["dpkg-deb", "-Znone", "--root-owner-group", "--build", str(root), str(packages / f"{version}.deb")]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


class Bench:
    """A town of one controller whose program is replaced."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder, self.kind = folder, kind
        self.machine = folder / "machine"
        self.machine.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(self.machine)], check=True)
        (self.machine / "root").mkdir()
        (folder / "packages").mkdir()
        for version in {FIRST[kind], *NEXT[kind]}:
            package_of(version, folder, folder / "packages")
        self.site = Site(folder / "town", TOWN, plain_text=kind == "0.3")
        self.place = self.site.folder / "r001"
        if kind == "afar":
            self._serve_releases()
        if kind == "0.3":
            self._register_as_0_3()
        (self.machine / "packages").symlink_to(folder / "packages")
        self.line = self.site.proxy("r001 gateway", "head_end")
        self.unit: subprocess.Popen[bytes] | None = None
        self.gateway: subprocess.Popen[bytes] | None = None
        self._closed = threading.Event()
        self._dark = threading.Event()
        self._supervisor = threading.Thread(target=self._keep_running)
        for log in ("gateway.log", "unit.log"):
            (folder / log).touch()

    def _serve_releases(self) -> None:
        releases.LEVEL = 3
        care = f"127.0.0.1:{free_port()}"
        self.site.add_setting("utility", f'care = "{care}"\ncare_certificate = "../head-end/broker.pem"')
        self.site.add_setting("r001 gateway", f'care = ["{care}"]')
        before = Path.cwd()
        os.chdir(self.folder)
        for version in (FIRST["afar"], *NEXT["afar"]):
            file = releases.sign(self.folder / "packages" / f"{version}.deb", Authority.load(self.site.folder))
            publish(file, self.packages, self.site.folder / "authority" / "ca.pem", print)
        os.chdir(before)

    @property
    def packages(self) -> Path:
        return self.site.folder / "utility" / "packages"

    def _register_as_0_3(self) -> None:
        """Give the controller the files of 0.3's office."""
        code = old_release(RELEASE_0_3, self.folder / "office-0.3")
        for path in self.site.folder.glob("*/*-tokens.json"):
            path.unlink()
        for name in ("devices.json", "registry.json"):
            (self.place / name).unlink(missing_ok=True)
        database = f"sqlite:///{self.site.folder}/utility/utility.db"
        (self.site.folder / "utility" / "utility.db").unlink()
        words = ["utility", "register", "--town", str(self.site.town_file), "--database", database]
        words += ["--out", str(self.site.folder)]
        environment = os.environ | {"PYTHONPATH": str(code)}
        subprocess.run([sys.executable, "-m", "commonwatt", *words], cwd=code, env=environment, check=True)
        old = {name: (self.place / name).read_bytes() for name in ("devices.json", "registry.json")}
        subprocess.run([sys.executable, "-m", "commonwatt", *words], check=True)
        for name, content in old.items():
            (self.place / name).write_bytes(content)

    # The machine

    def _keep_running(self) -> None:
        """Start the gateway again whenever it ended, as systemd does."""
        log = (self.folder / "gateway.log").open("ab")
        while not self._closed.wait(0.3):
            idle = self.gateway is None or self.gateway.poll() is not None
            if idle and not self._dark.is_set() and not (self.machine / "stopped").exists():
                words = program(self.machine, "gateway", "run", "--config", str(self.place / "gateway.toml"))
                self.gateway = subprocess.Popen(words, stdout=log, stderr=log, env=os.environ | {"PYTHONPATH": ""})
                (self.machine / "pid").write_text(str(self.gateway.pid))

    def start_unit(self, by_hand: str) -> None:
        task = {"folder": str(self.machine), "place": str(self.place), "by_hand": by_hand, "verdict_s": VERDICT_S}
        task["authority"] = str(self.site.folder / "authority" / "ca.pem")
        log = (self.folder / "unit.log").open("ab")
        words = [sys.executable, "-m", "harness.care.unit", json.dumps(task)]
        self.unit = subprocess.Popen(words, stdout=log, stderr=log)

    def reset(self) -> None:
        """Install the first release, as if nothing else had been there."""
        if self.unit is not None:
            self.unit.kill()
            self.unit.wait()
        for name in ("begun", "stopped", "filler"):
            (self.machine / name).unlink(missing_ok=True)
        for path in (self.machine / "root").iterdir():
            path.unlink()
        shutil.rmtree(self.place / "upgrade", ignore_errors=True)
        first = FIRST[self.kind]
        for path in self.machine.glob("tree-*"):
            shutil.rmtree(path)
        deb = self.folder / "packages" / f"{first}.deb"
        subprocess.run(["dpkg-deb", "-x", str(deb), str(self.machine / f"tree-{first}")], check=True)
        link = self.machine / "current.new"
        link.symlink_to(self.machine / f"tree-{first}")
        link.replace(self.machine / "current")
        (self.machine / "status").write_text(first)
        if self.kind == "afar":
            shutil.copy(deb, self.machine / "root" / "installed.deb")
        if self.gateway is not None:
            self.gateway.terminate()

    def works(self) -> bool:
        """Whether the gateway answers, and the utility acknowledges what its meters send."""
        status = self.site.status("r001 gateway")
        return status is not None and status["connected"]["meters"] and status["backlog_age_s"] < 1800

    # Faults

    def fault(self, name: str) -> None:
        if name in ("kill gateway", "power cut") and self.gateway is not None:
            self.gateway.kill()
        if name in ("kill unit", "power cut") and self.unit is not None:
            self.unit.kill()
            self.unit.wait()
        if name == "power cut":
            self._dark.set()
            self.site.kill("r001 broker")
            time.sleep(2)
            self.site.start("r001 broker")
            self._dark.clear()
        if name in ("kill unit", "power cut"):
            time.sleep(1)
            self.start_unit(self.version)
        if name == "cut line":
            self.line.refuse()
            self.line.cut()
            time.sleep(15)
            self.line.listen()
        if name == "full disk":
            with (self.machine / "filler").open("wb") as file:
                try:
                    while True:
                        file.write(bytes(1 << 20))
                        file.flush()
                except OSError:
                    pass
            time.sleep(15)
            (self.machine / "filler").unlink()

    def run(self, number: int, fault: str, at_s: float) -> str:
        """Do one upgrade; return the row."""
        self.version = NEXT[self.kind][number % len(NEXT[self.kind])]
        by_hand = "" if self.kind == "afar" else self.version
        self.reset()
        eventually(self.works, 120)
        time.sleep(5)
        before_bytes = self.line_bytes()
        self.start_unit(by_hand)
        began = time.monotonic()
        if self.kind == "afar":
            self.order()
        if fault == "full disk":
            # Before or while it is installed.
            eventually(lambda: (self.place / "upgrade" / ORDER).exists() or read_state(self.machine / "root"), 120)
            time.sleep(at_s)
        else:
            time.sleep(at_s)
        at_s = time.monotonic() - began
        self.fault(fault)
        while time.monotonic() - began < ENDS_WITHIN_S and not self.ended():
            time.sleep(0.5)
            if self.unit is not None and self.unit.poll() is not None:
                self.start_unit(by_hand)  # As systemd does.
        took_s = time.monotonic() - began
        result = read_state(self.machine / "root", RESULT) or {"result": "refused before", "why": self.told()}
        installed = (self.machine / "status").read_text()
        eventually(self.works, 120)
        audit = audited(self.site.folder)
        good = installed in (FIRST[self.kind], self.version) and audit.good
        if self.kind == "planted":
            good = good and installed == FIRST[self.kind]
        lost = sum(not line.good for line in audit.lines) + audit.events_missing
        fetched = self.line_bytes() - before_bytes
        return (
            f"| {number} | {self.kind} | {self.version} | {fault} at {at_s:.0f} s | {result['result']} | {installed} | "
            f"{took_s:.0f} s | {fetched} | {lost} | {'good' if good else 'BAD'} | {result['why'][:60]} |"
        )

    def line_bytes(self) -> int:
        """Return the bytes of all releases that the gateway has fetched."""
        return sum(map(int, re.findall(r"was fetched, (\d+) bytes", (self.folder / "gateway.log").read_text())))

    # The utility

    def order(self) -> None:
        with closing(open_database(self.database, create=False)) as database:
            now = int(self.site.layout.clock.now())
            found = database.read(store.newest)
            if found is not None and found.state == "running":
                rollout.stop(database, on_machine("harness"), now)
            rollout.begin(database, on_machine("harness"), *release_of(self.packages, self.version), "r001", now)

    @property
    def database(self) -> str:
        return f"sqlite:///{self.site.folder}/utility/utility.db"

    def ended(self) -> bool:
        """Whether the unit, and from afar the utility, has the result."""
        if (self.machine / "root" / STATE).exists():
            return False
        if self.kind != "afar":
            return read_state(self.machine / "root", RESULT) is not None
        return self.told() != ""

    def told(self) -> str:
        """Return the verdict at the utility."""
        if self.kind != "afar":
            return ""
        with closing(open_database(self.database, create=False)) as database, database.reads.begin() as connection:
            found = store.newest(connection)
            assert found is not None
            (member,) = store.members_of(connection, found.no)
        return f"{member.verdict}: {member.why}" if member.verdict else ""

    @contextmanager
    def running(self) -> Iterator[None]:
        self._supervisor.start()
        try:
            self.reset()
            self.site.start("head-end", "utility", "r001 broker", "r001 meters")
            yield
        finally:
            self._closed.set()
            self._supervisor.join()
            for process in (self.unit, self.gateway):
                if process is not None:
                    process.kill()
                    process.wait()
            self.site.__exit__(None, None, None)
            subprocess.run(["umount", "--lazy", str(self.machine)], check=True)


def main(kind: str, count: int, seed: int, say: Callable[[str], None]) -> None:
    """Do so many upgrades, and print a table."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="upgrades-") as name:
        bench = Bench(Path(name), kind)
        say("| no | from | to | fault | result | ends in | took | bytes | lost | verdict | why |\n" + "|---" * 11 + "|")
        try:
            with bench.running():
                for number in range(count):
                    fault = FAULTS[number % len(FAULTS)] if kind != "planted" else chance.choice(FAULTS[:4])
                    most_s = 1.5 if fault == "full disk" else 90 if kind == "afar" else 60
                    say(bench.run(number, fault, chance.uniform(0, most_s)))
        except BaseException:
            traceback.print_exc()
            for log in ("gateway.log", "unit.log"):
                say((bench.folder / log).read_text()[-3000:])
            raise


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    main(sys.argv[1], int(sys.argv[2]), int((*sys.argv[3:], "1")[0]), lambda line: print(line, flush=True))
