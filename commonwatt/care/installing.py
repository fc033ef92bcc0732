"""Installs a release on a controller or goes back, from any point at which the power may fail (docs/guides/upgrade.md).

The unit ``upgrade-commonwatt`` runs this file as root by the system's Python. It imports Python's own library alone,
and runs from a copy while the program is replaced, so that no release can prevent the way back. It needs no network.
Nothing is installed unless the package of the installed release is kept; an order of that release keeps it.

=======  ==================================================================================================
step     what is done; the next step is written durably before it begins
=======  ==================================================================================================
install  dpkg installs the new package; after a failure: back
judge    the new gateway gives its verdict within ten minutes; no verdict or a bad one: back
back     the store gets the older release's form, and the kept package is installed
=======  ==================================================================================================
"""

import fcntl
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STATE, RESULT = "state.json", "result.json"  # the step of an upgrade that lasts; the result of the last one
NEW, INSTALLED = "new.deb", "installed.deb"  # the package that is being installed, and the one that was before
COPY = "installing.py"  # this file, while an upgrade lasts: no release can prevent the way back
ORDER, PACKAGE, VERDICT = "ready.json", "fetched.deb", "verdict.json"  # the gateway's files, in its folder ``upgrade``

VERDICT_S = 600  # seconds for which a verdict is waited for
LOOK_S = 5.0  # seconds between two looks for it
MOST_STARTS = 3  # times that a step is begun again after a power cut or crash, before the way back
MOST_ORDER_BYTES = 64 * 1024  # most bytes of an order or verdict
UNPACKED_TIMES = 6  # how many times a package's size its files take, with those that they replace

_OWN = Path(__file__).read_bytes()  # now: the file is replaced by an installation, or removed after one

State = dict[str, Any]


class InstallRefused(Exception):  # noqa: N818 - a decision
    """A package is not installed, or a step failed; the text says why."""


@dataclass(frozen=True, kw_only=True)
class Outside:
    """What an installation does to its machine. Those that fail raise ``InstallRefused``."""

    check: Callable[[str, str], None]  # checks that the town's authority signed a manifest; takes it and the signature
    architecture: Callable[[], str]  # returns the processor's, as Debian names it
    installed: Callable[[], str]  # returns the installed version
    version_of: Callable[[Path], str]  # returns a package's version; empty: it is none
    is_newer: Callable[[str, str], bool]  # whether the first version is above the second one
    install: Callable[[Path], None]  # installs a package, and starts the services that are enabled
    prepare_back: Callable[[str], None]  # stops the services, and gives the store the form of an older version
    verdicts: Callable[[], list[State | None]]  # returns what each gateway of the machine said last; None: nothing
    wait: Callable[[float], object]  # waits so many seconds
    now: Callable[[], float]  # returns the seconds since the machine's start


@dataclass(frozen=True, kw_only=True)
class Installing:
    """One machine's installations."""

    folder: Path  # root's, with the step and the packages
    outside: Outside  # the machine
    verdict_s: float = VERDICT_S  # seconds for which a verdict is waited for

    def take(self, orders: Path) -> None:
        """Take the order in a gateway's folder ``upgrade``; what is wrong with it becomes the result."""
        order = {"id": "", "version": "", "before": self.outside.installed()}
        try:
            text = json.loads(read_plain(orders / ORDER))
            order["id"] = str(text["id"])[:64]
            self.outside.check(text["manifest"], text["signature"])
            manifest = json.loads(text["manifest"])
            order["version"] = manifest["version"]
            if result_of(self.folder, order["id"], order["version"], orders / ORDER) is not None:
                return  # It was taken before a power cut, or another gateway's order was the same.
            self._check(manifest, order["before"])
            _copy(orders / PACKAGE, self.folder / NEW, manifest["sha256"], manifest["size_bytes"])
            if order["version"] == order["before"]:  # For the next way back.
                (self.folder / NEW).replace(self.folder / INSTALLED)
                self._end(order, "done", "")
            else:
                self.begin(order)
        except (InstallRefused, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
            self._end(order, "refused", str(error))

    def _check(self, manifest: State, before: str) -> None:
        if manifest["package"] != "commonwatt-controller" or manifest["architecture"] != self.outside.architecture():
            raise InstallRefused(f"{manifest['package']} of {manifest['architecture']} is not for this controller")
        if manifest["version"] != before and not self.outside.is_newer(manifest["version"], before):
            raise InstallRefused(f"version {manifest['version']} is not above the installed {before}")
        needed = (1 + UNPACKED_TIMES) * manifest["size_bytes"]
        if (free := shutil.disk_usage(self.folder).free) < needed:
            raise InstallRefused(f"{free:,} bytes are free, {needed:,} are needed")

    def begin(self, order: State) -> None:
        """Begin to install the package ``NEW`` in the folder, if there is a way back; ``go_on`` does the rest."""
        kept, before = self.folder / INSTALLED, order["before"]
        if self.outside.version_of(kept) == before:
            _write(self.folder / COPY, _OWN)
            self._write({**order, "step": "install", "starts": 0, "why": "", "verdict_s": self.verdict_s})
        else:
            why = f"no way back: the package of {before} is not kept; publish it and begin its rollout, or: sudo cp"
            self._end(order, "refused", f"{why} ITS.deb {kept}")

    def go_on(self) -> None:
        """Do what is left of an installation."""
        steps = {"install": self._install, "judge": self._judge, "back": self._back}
        while (state := read_state(self.folder)) is not None:
            state["starts"] += 1
            if state["starts"] <= MOST_STARTS or state["step"] == "back":
                self._write(state)
                steps[state["step"]](state)
            else:
                self._next(state, "back", f"step {state['step']} did not end {MOST_STARTS} times")

    def _install(self, state: State) -> None:
        try:
            self.outside.install(self.folder / NEW)
        except InstallRefused as error:
            self._next(state, "back", str(error))
        else:
            self._next(state, "judge")

    def _judge(self, state: State) -> None:
        # The gateways count the time for their verdict from here on, whatever their start takes.
        self._write({**state, "began": self.outside.now()})
        for _ in range(int(state["verdict_s"] / LOOK_S)):
            every = self.outside.verdicts()
            given = [verdict for verdict in every if verdict is not None and verdict.get("id") == state["id"]]
            if bad := [verdict for verdict in given if verdict.get("good") is not True]:
                self._next(state, "back", str(bad[0].get("why")))
                return
            if given and len(given) == len(every):
                if (self.folder / NEW).exists():  # Otherwise it was moved before a power cut.
                    (self.folder / NEW).replace(self.folder / INSTALLED)
                self._end(state, "done", "")
                return
            self.outside.wait(LOOK_S)
        self._next(state, "back", f"no verdict within {state['verdict_s'] / 60:.0f} minutes")

    def _back(self, state: State) -> None:
        # What fails here is tried again by the unit until it is done: raised.
        self.outside.prepare_back(state["before"])
        self.outside.install(self.folder / INSTALLED)
        self._end(state, "failed", f"went back to {state['before']}: {state['why']}")

    def _next(self, state: State, step: str, why: str = "") -> None:
        if step == "back":  # First of all: on a full disk nothing can be written, and no package unpacked.
            (self.folder / NEW).unlink(missing_ok=True)
        self._write({**state, "step": step, "starts": 0, "why": (why or state["why"])[:200]})

    def _end(self, state: State, result: str, why: str) -> None:
        (self.folder / NEW).unlink(missing_ok=True)
        ended = {"id": state["id"], "version": state["version"], "result": result, "why": why[:200]}
        _write(self.folder / RESULT, json.dumps(ended).encode())
        (self.folder / STATE).unlink(missing_ok=True)
        (self.folder / COPY).unlink(missing_ok=True)
        _sync(self.folder)

    def _write(self, state: State) -> None:
        _write(self.folder / STATE, json.dumps(state).encode())


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Wait until no other process installs on this machine, and keep others out: a package's script starts the unit."""
    folder.mkdir(mode=0o755, exist_ok=True)
    os.umask(0o022)  # Gateways read what is written here.
    with (folder / "lock").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def read_state(folder: Path, name: str = STATE) -> State | None:
    """Return the state of an installation that lasts, or with another name a result or verdict; ``None``: none."""
    try:
        state = json.loads(read_plain(folder / name))
    except (FileNotFoundError, ValueError, RecursionError):
        return None
    return state if isinstance(state, dict) else None


def result_of(folder: Path, order_id: str, version: str, since: Path) -> State | None:
    """Return the result of an order: its own, or a failure of its version after the file ``since`` was written."""
    result = read_state(folder, RESULT)
    if result is None or result.get("id") == order_id:
        return result
    is_later = since.exists() and (folder / RESULT).stat().st_mtime_ns > since.stat().st_mtime_ns
    return result if is_later and (result.get("version"), result.get("result")) == (version, "failed") else None


def read_plain(path: Path, most_bytes: int = MOST_ORDER_BYTES) -> bytes:
    """Read a plain file that another user can write; raise ValueError for a larger one, a link, or anything else."""
    with os.fdopen(_open(path), "rb") as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ValueError(f"{path}: has more than {most_bytes} bytes")
    return content


def _open(path: Path) -> int:
    """Open a plain file; a link is not followed, and a pipe not waited for: another user can write its folder."""
    if not stat.S_ISREG(path.lstat().st_mode):
        raise ValueError(f"{path}: is no plain file")
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def _copy(source: Path, target: Path, sha256: str, size_bytes: int) -> None:
    """Copy a package durably while it is checked: only root can change the copy."""
    digest, left = hashlib.sha256(), size_bytes
    with os.fdopen(_open(source), "rb") as file, target.open("wb") as copy:
        while left and (block := file.read(min(left, 1 << 20))):
            digest.update(block)
            copy.write(block)
            left -= len(block)
        copy.flush()
        os.fsync(copy.fileno())
    if digest.hexdigest() != sha256:
        raise InstallRefused("the package is damaged: it has another checksum than its manifest")


def _write(path: Path, content: bytes) -> None:
    beside = path.with_suffix(".writing")
    beside.write_bytes(content)
    _sync(beside)
    beside.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# The machine, with Debian's programs

FOLDER = Path("/var/lib/commonwatt-upgrade")  # root's
PLACES = Path("/var/lib/commonwatt")  # the services' user's
AUTHORITY = "/etc/commonwatt/authority.pem"
_UNITS = Path("/etc/systemd/system")
_PROGRAM = "/opt/commonwatt/current/bin"
_AS_OWNER = ("runuser", "-u", "commonwatt", "--")
_NAME = "commonwatt-controller"
_FIRST_WITH_CLIQUES = "0.4~"  # older versions need the form that `gateway downgrade` gives
_CHECK = "import sys; from commonwatt.care.release import check; check(*sys.argv[2:], open(sys.argv[1], 'rb').read())"


def since_boot() -> float:
    """Return the seconds since the machine's start, sleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def machine() -> Outside:
    """Return this machine."""
    return Outside(
        check=lambda manifest, signature: _run(f"{_PROGRAM}/python3", "-c", _CHECK, AUTHORITY, manifest, signature),
        architecture=architecture,
        installed=lambda: _said("dpkg-query", "--show", "--showformat=${Version}", _NAME),
        version_of=version_of,
        is_newer=_is_newer,
        install=_install,
        prepare_back=_prepare_back,
        verdicts=lambda: [read_state(path.with_name("upgrade"), VERDICT) for path in PLACES.glob("*/gateway.toml")],
        wait=threading.Event().wait,
        now=since_boot,
    )


def version_of(package: Path) -> str:
    """Return a package's version; empty: it is none."""
    return _said("dpkg-deb", "--field", str(package), "Version") if package.exists() else ""


def architecture() -> str:
    """Return the processor of this machine's packages, as Debian names it."""
    return _said("dpkg", "--print-architecture")


def _is_newer(version: str, other: str) -> bool:
    return subprocess.run(["dpkg", "--compare-versions", version, "gt", other], check=False).returncode == 0


def _run(*command: str) -> None:
    """Run a command."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})
    except OSError as error:
        raise InstallRefused(f"{command[0]} can't be run: {error}") from error
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1]
        raise InstallRefused(f"{Path(command[0]).name} failed: {last}")


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _gateways(*words: str) -> None:
    """Tell systemd something of the enabled gateways; a package's script restarts only those that run."""
    units = [path.name for kind in ("gateway", "host") for path in _UNITS.glob(f"*.wants/commonwatt-{kind}@*.service")]
    if units:
        _run("systemctl", *words, *units)


def _install(package: Path) -> None:
    _run("dpkg", "--install", "--force-downgrade", "--force-confold", str(package))
    _gateways("start", "--no-block")


def _prepare_back(before: str) -> None:
    _gateways("stop")
    for config in PLACES.glob("*/gateway.toml") if _is_newer(_FIRST_WITH_CLIQUES, before) else ():
        words = ("gateway", "downgrade", "--config", str(config))
        try:
            _run(*_AS_OWNER, f"{_PROGRAM}/commonwatt", *words)
        except InstallRefused as error:
            # A program that can't start has not changed the store either: the older one goes on with it.
            print(f"{config}: the store keeps its form: {error}", file=sys.stderr)


def main() -> None:
    """Do what is left of an installation, or take an order."""
    with alone(FOLDER):
        installing = Installing(folder=FOLDER, outside=machine())
        installing.go_on()
        for orders in PLACES.glob("*/upgrade"):
            if os.path.lexists(orders / ORDER):
                installing.take(orders)
                # A folder may stand there, or a link to one: as its owner, who can remove nothing of root's.
                _run(*_AS_OWNER, "rm", "-rf", str(orders / ORDER))
                installing.go_on()
        (FOLDER / COPY).unlink(missing_ok=True)  # A power cut may have left it.


if __name__ == "__main__":
    main()
