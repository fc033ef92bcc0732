"""The root unit installs a release or goes back, wherever the power fails; the machine is a folder."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from commonwatt.care import by_hand, installing
from commonwatt.care.installing import (
    INSTALLED,
    MOST_STARTS,
    NEW,
    ORDER,
    PACKAGE,
    RESULT,
    STATE,
    VERDICT_S,
    Installing,
    Outside,
    Refused,
    read_state,
)
from commonwatt.model.exceptions import CommonwattError

OLD, GOOD, DEAF, UNWELL = "0.3.0", "0.4.0", "0.4.1", "0.4.2"  # versions; the last two give no verdict, or a bad one


class PowerCut(BaseException):
    """The power fails."""


class Machine:
    """A machine whose packages are files with a version; the power fails before its n-th act."""

    def __init__(self, folder: Path, cut: int = -1) -> None:
        self.orders, self.folder = folder / "upgrade", folder / "root"
        self.orders.mkdir()
        self.folder.mkdir()
        self.disk = folder / "disk"  # the installed program
        self.disk.write_text(OLD)
        self.cut, self.acts = cut, 0
        self.said: list[str] = []
        self.waited_s = 0.0
        self.is_full = False
        self.is_signed = True

    def order(self, version: str, name: str = "op-1") -> None:
        content = version.encode()
        (self.orders / PACKAGE).write_bytes(content)
        manifest = {"package": "commonwatt-controller", "version": version, "size_bytes": len(content)}
        manifest["sha256"] = hashlib.sha256(content).hexdigest()
        text = json.dumps({"id": name, "manifest": json.dumps(manifest), "signature": "00"})
        (self.orders / ORDER).write_text(text)

    def act(self, name: str) -> None:
        self.acts += 1
        self.said.append(name)
        if self.acts == self.cut:
            raise PowerCut

    def check(self, *_: str) -> None:
        self.act("check")
        if not self.is_signed:
            raise Refused("the signature does not fit")

    def install(self, package: Path) -> None:
        self.act(f"install {package.name}")
        if self.is_full and package.name == NEW:
            raise Refused("dpkg failed: no space left on device")
        shutil.copy(package, self.disk)
        self.act("installed")

    def repack(self, package: Path) -> None:
        self.act("repack")
        shutil.copy(self.disk, package)

    def verdict(self) -> dict[str, Any] | None:
        self.act("verdict")
        version = self.disk.read_text()
        state = read_state(self.folder)
        assert state is not None
        if self.waited_s < 60 or version == DEAF:
            return {"id": "another", "good": True}
        return {"id": state["id"], "good": version != UNWELL, "why": "no meter was served"}

    def wait(self, seconds: float) -> None:
        self.waited_s += seconds

    def outside(self) -> Outside:
        return Outside(
            check=self.check,
            installed=self.disk.read_text,
            version_of=lambda path: path.read_text() if path.exists() else "",
            is_newer=lambda one, other: one > other,
            install=self.install,
            repack=self.repack,
            prepare_back=lambda before: self.act(f"prepare {before}"),
            verdict=self.verdict,
            wait=self.wait,
            now=lambda: self.waited_s,
        )

    def runs(self) -> None:
        """The unit starts."""
        unit = Installing(folder=self.folder, outside=self.outside())
        unit.go_on()
        if (self.orders / ORDER).exists():
            unit.take(self.orders)
            (self.orders / ORDER).unlink()
            unit.go_on()

    @property
    def result(self) -> dict[str, Any]:
        found = read_state(self.folder, RESULT)
        assert found is not None
        return found


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_good_release_is_installed_and_kept_for_the_next_way_back(machine: Machine) -> None:
    machine.order(GOOD)
    machine.runs()
    assert machine.result == {"id": "op-1", "version": GOOD, "result": "done", "why": ""}
    assert machine.disk.read_text() == (machine.folder / INSTALLED).read_text() == GOOD
    assert not (machine.folder / STATE).exists()
    assert not (machine.folder / NEW).exists()


@pytest.mark.parametrize(("version", "why"), [(DEAF, "no verdict within 10 minutes"), (UNWELL, "no meter was served")])
def test_a_release_that_starts_and_then_fails_goes_back(machine: Machine, version: str, why: str) -> None:
    machine.order(version)
    machine.runs()
    assert machine.result["result"] == "failed"
    assert machine.result["why"] == f"went back to {OLD}: {why}"
    assert machine.disk.read_text() == OLD
    assert machine.waited_s <= VERDICT_S
    assert f"prepare {OLD}" in machine.said


def test_a_full_disk_goes_back(machine: Machine) -> None:
    machine.order(GOOD)
    machine.is_full = True
    machine.runs()
    assert machine.disk.read_text() == OLD
    assert "no space left" in machine.result["why"]


def _unsigned(machine: Machine) -> None:
    machine.is_signed = False


def _damaged(machine: Machine) -> None:
    (machine.orders / PACKAGE).write_text("0.4.X")


def _linked(machine: Machine) -> None:
    (machine.orders / PACKAGE).unlink()
    (machine.orders / PACKAGE).symlink_to(machine.disk)


def _garbled(machine: Machine) -> None:
    (machine.orders / ORDER).write_text("[")


@pytest.mark.parametrize("spoil", [_unsigned, _damaged, _linked, _garbled])
def test_a_package_that_is_not_what_the_authority_signed_is_refused(
    machine: Machine, spoil: Callable[[Machine], None]
) -> None:
    machine.order(GOOD)
    spoil(machine)
    machine.runs()
    assert machine.result["result"] == "refused"
    assert machine.disk.read_text() == OLD


def test_an_older_release_is_refused(machine: Machine) -> None:
    machine.order("0.2.0")
    machine.runs()
    assert machine.result["result"] == "refused"
    assert "is not above the installed 0.3.0" in machine.result["why"]


def test_no_space_is_refused_before_anything_is_changed(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.order(GOOD)
    monkeypatch.setattr(installing.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 90, 10))  # type: ignore[attr-defined]
    machine.runs()
    assert "bytes are free" in machine.result["why"]
    assert machine.said == ["check"]


@pytest.mark.parametrize("version", [GOOD, DEAF, UNWELL])
@pytest.mark.parametrize("cut", range(1, 30))
def test_wherever_the_power_fails_it_ends_in_one_of_the_two_releases(tmp_path: Path, cut: int, version: str) -> None:
    machine = Machine(tmp_path, cut)
    machine.order(version)
    try:
        machine.runs()
    except PowerCut:
        machine.runs()
    assert machine.disk.read_text() == (GOOD if version == GOOD else OLD)
    assert machine.result["result"] == ("done" if version == GOOD else "failed")
    assert (machine.folder / INSTALLED).read_text() == machine.disk.read_text()


def test_a_step_that_never_ends_goes_back(machine: Machine) -> None:
    machine.order(GOOD)
    starts = 0
    for _ in range(MOST_STARTS + 1):
        # Each start ends at the package's installation.
        machine.cut = machine.acts + (3 if starts == 0 else 1)
        starts += 1
        try:
            machine.runs()
        except PowerCut:
            continue
    machine.cut = -1
    machine.runs()
    assert machine.result["result"] == "failed"
    assert "did not end 3 times" in machine.result["why"]


def _cut(*_: object) -> None:
    raise PowerCut


def test_after_each_write_a_crash_leaves_a_state_that_is_read(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file of the step is replaced whole: a crash between any two system calls is one between two writes."""
    machine.order(GOOD)
    monkeypatch.setattr(installing, "_sync_file", _cut)
    with pytest.raises(PowerCut):
        machine.runs()
    monkeypatch.undo()
    machine.runs()
    assert machine.result["result"] == "done"


@pytest.mark.parametrize(("version", "why"), [(GOOD, ""), (UNWELL, "failed: went back to 0.3.0: no meter was served")])
def test_by_hand_it_is_judged_and_goes_back_too(
    machine: Machine, version: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_hand, "uncompressed", lambda path: path.read_bytes())
    package = machine.orders / "by-hand.deb"
    package.write_text(version)
    said: list[str] = []
    if why:
        with pytest.raises(CommonwattError, match=why):
            by_hand.install_by_hand(package, version, 1, said.append, machine.folder, machine.outside())
    else:
        by_hand.install_by_hand(package, version, 1, said.append, machine.folder, machine.outside())
        assert said[-1].strip() == "done"
    assert machine.disk.read_text() == (OLD if why else GOOD)
