"""The root unit installs a release or goes back, wherever the power fails; the machine is a folder."""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from commonwatt.care import installing, release
from commonwatt.care.installing import (
    INSTALLED,
    MOST_STARTS,
    NEW,
    ORDER,
    PACKAGE,
    RESULT,
    STATE,
    VERDICT,
    VERDICT_S,
    Installing,
    InstallRefused,
    Outside,
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
        (self.folder / INSTALLED).write_text(OLD)
        self.cut, self.acts = cut, 0
        self.said: list[str] = []
        self.waited_s = 0.0
        self.is_full = False
        self.is_signed = True
        self.built_for = "arm64"
        self.gateways = 1

    def order(self, version: str, name: str = "op-1") -> None:
        content = version.encode()
        (self.orders / PACKAGE).write_bytes(content)
        manifest = {"package": "commonwatt-controller", "version": version, "size_bytes": len(content)}
        manifest["architecture"] = self.built_for
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
            raise InstallRefused("the signature does not fit")

    def install(self, package: Path) -> None:
        self.act(f"install {package.name}")
        if self.is_full and package.name == NEW:
            raise InstallRefused("dpkg failed: no space left on device")
        shutil.copy(package, self.disk)
        self.act("installed")

    def verdicts(self) -> list[dict[str, Any] | None]:
        return [self.verdict() if number or self.gateways == 1 else None for number in range(self.gateways)]

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
            architecture=lambda: "arm64",
            installed=self.disk.read_text,
            version_of=lambda path: path.read_text() if path.exists() else "",
            is_newer=lambda one, other: one > other,
            install=self.install,
            prepare_back=lambda before: self.act(f"prepare {before}"),
            verdicts=self.verdicts,
            wait=self.wait,
            now=lambda: self.waited_s,
        )

    def runs(self) -> None:
        """The unit starts."""
        unit = Installing(folder=self.folder, outside=self.outside())
        unit.go_on()
        if (self.orders / ORDER).exists():
            unit.take(self.orders)
            self.act("taken")
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
    (machine.folder / "same").write_text(GOOD)
    (machine.orders / PACKAGE).symlink_to(machine.folder / "same")


def _garbled(machine: Machine) -> None:
    (machine.orders / ORDER).write_text("[")


def _nested(machine: Machine) -> None:
    (machine.orders / ORDER).write_text("[" * 60_000)


def _huge(machine: Machine) -> None:
    (machine.orders / ORDER).write_text(" " * 70_000)


def _piped(machine: Machine) -> None:
    (machine.orders / PACKAGE).unlink()
    os.mkfifo(machine.orders / PACKAGE)


def _foreign(machine: Machine) -> None:
    machine.built_for = "amd64"
    machine.order(GOOD)


@pytest.mark.parametrize("spoil", [_unsigned, _damaged, _linked, _garbled, _nested, _huge, _piped, _foreign])
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
    assert machine.said == ["check", "taken"]


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
    monkeypatch.setattr(installing, "_sync", _cut)
    with pytest.raises(PowerCut):
        machine.runs()
    monkeypatch.undo()
    machine.runs()
    assert machine.result["result"] == "done"


@pytest.mark.parametrize(("version", "why"), [(GOOD, ""), (UNWELL, "failed: went back to 0.3.0: no meter was served")])
def test_by_hand_it_is_judged_and_goes_back_too(machine: Machine, version: str, why: str) -> None:
    package = machine.orders / "by-hand.deb"
    package.write_text(version)
    said: list[str] = []
    if why:
        with pytest.raises(CommonwattError, match=why):
            release.install_by_hand(package, version, said.append, machine.folder, machine.outside())
    else:
        release.install_by_hand(package, version, said.append, machine.folder, machine.outside())
        assert said[-1].strip() == "done"
    assert machine.disk.read_text() == (OLD if why else GOOD)


def test_an_order_that_a_power_cut_left_behind_changes_no_result(machine: Machine) -> None:
    machine.order(GOOD)
    order = (machine.orders / ORDER).read_bytes()
    machine.runs()
    (machine.orders / ORDER).write_bytes(order)
    machine.runs()
    assert (machine.result["id"], machine.result["result"]) == ("op-1", "done")


def test_the_installed_release_ordered_by_another_gateway_of_the_machine_is_done(machine: Machine) -> None:
    machine.order(GOOD)
    machine.runs()
    machine.order(GOOD, "op-2")
    machine.runs()
    assert (machine.result["id"], machine.result["result"]) == ("op-2", "done")
    assert machine.said.count("install new.deb") == 1


def test_a_release_that_went_back_is_not_tried_again_for_an_order_that_waited_meanwhile(machine: Machine) -> None:
    machine.order(UNWELL, "op-2")
    os.utime(machine.orders / ORDER, (1_000, 1_000))
    other = (machine.orders / ORDER).read_bytes()
    machine.order(UNWELL)
    machine.runs()
    (machine.orders / ORDER).write_bytes(other)
    os.utime(machine.orders / ORDER, (1_000, 1_000))
    machine.runs()
    assert machine.said.count("install new.deb") == 1
    machine.order(UNWELL, "op-3")
    os.utime(machine.orders / ORDER, (2**33, 2**33))
    machine.runs()
    assert machine.said.count("install new.deb") == 2, "a later order is an order"


def test_each_gateway_of_a_machine_gives_its_verdict(machine: Machine) -> None:
    machine.gateways = 2
    machine.order(GOOD)
    machine.runs()
    assert machine.result["why"] == f"went back to {OLD}: no verdict within 10 minutes"
    machine.gateways = 1
    machine.order(GOOD, "op-2")
    machine.runs()
    assert machine.result["result"] == "done"


@pytest.mark.parametrize("kept", [None, "0.2.0"])
def test_without_a_way_back_nothing_is_installed_until_the_installed_release_is_kept(
    machine: Machine, kept: str | None
) -> None:
    (machine.folder / INSTALLED).unlink()
    if kept is not None:
        (machine.folder / INSTALLED).write_text(kept)
    machine.order(GOOD)
    machine.runs()
    assert machine.result["result"] == "refused"
    assert machine.result["why"].startswith(f"no way back: the package of {OLD} is not kept; publish it")
    (machine.orders / "by-hand.deb").write_text(GOOD)
    with pytest.raises(CommonwattError, match="no way back"):
        release.install_by_hand(machine.orders / "by-hand.deb", GOOD, print, machine.folder, machine.outside())
    assert not any(each.startswith(("prepare", "install")) for each in machine.said), "no service was stopped"
    machine.order(OLD, "op-2")
    machine.runs()
    assert (machine.result["id"], machine.result["result"]) == ("op-2", "done")
    machine.order(GOOD, "op-3")
    machine.runs()
    assert (machine.result["id"], machine.result["result"], machine.disk.read_text()) == ("op-3", "done", GOOD)


def test_on_a_full_disk_the_new_package_goes_before_anything_is_written(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = installing._write

    def full(path: Path, content: bytes) -> None:
        if machine.is_full and (machine.folder / NEW).exists() and b'"step": "back"' in content:
            raise OSError("no space left on device")
        write(path, content)

    monkeypatch.setattr(installing, "_write", full)
    machine.is_full = True
    machine.order(GOOD)
    machine.runs()
    assert machine.result["result"] == "failed"


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to("/"), os.mkfifo])
def test_what_is_no_file_in_place_of_a_verdict_is_none(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / VERDICT)
    assert read_state(tmp_path, VERDICT) is None


def test_a_folder_in_place_of_an_order_is_refused_and_removed(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    (machine.orders / ORDER / "deep").mkdir(parents=True)
    monkeypatch.setattr(installing, "FOLDER", machine.folder)
    monkeypatch.setattr(installing, "PLACES", machine.orders.parent.parent)
    monkeypatch.setattr(installing, "machine", machine.outside)
    done: list[tuple[str, ...]] = []
    run = installing._run

    def as_root(*command: str) -> None:
        done.append(command[:4])
        run(*command[4:])

    monkeypatch.setattr(installing, "_run", as_root)
    installing.main()
    assert machine.result["result"] == "refused"
    assert not os.path.lexists(machine.orders / ORDER)
    assert done == [("runuser", "-u", "commonwatt", "--")], "a link in its path leads to nothing of root's"


def test_two_never_install_at_once(machine: Machine) -> None:
    with installing.alone(machine.folder), (machine.folder / "lock").open() as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_the_unit_that_is_interrupted_goes_on_by_a_copy_of_the_old_program(machine: Machine) -> None:
    machine.order(GOOD)
    machine.cut = 3
    with pytest.raises(PowerCut):
        machine.runs()
    assert (machine.folder / installing.COPY).read_bytes() == Path(installing.__file__).read_bytes()
    machine.runs()
    assert not (machine.folder / installing.COPY).exists()


def test_a_copy_that_goes_on_takes_the_next_order_too(machine: Machine) -> None:
    machine.order(GOOD)
    machine.runs()
    assert not (machine.folder / installing.COPY).exists()
    machine.order("0.4.3", "op-2")
    machine.runs()
    assert (machine.result["id"], machine.result["result"]) == ("op-2", "done")


def test_however_long_a_program_says_why_it_failed_the_step_is_read_again(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    install = machine.install

    def fail(package: Path) -> None:
        if package.name == NEW:
            raise InstallRefused("no space left on device\n" * 10_000)
        install(package)

    monkeypatch.setattr(machine, "install", fail)
    machine.order(GOOD)
    machine.runs()
    assert machine.result["result"] == "failed"
    assert machine.said[-1] == "installed"
