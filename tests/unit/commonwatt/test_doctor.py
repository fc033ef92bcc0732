"""The shared checks of ``commonwatt doctor`` in conditions that real processes are seldom in."""

import os
import pwd
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from typer.testing import CliRunner

import commonwatt
from commonwatt.cli.main import make_app
from commonwatt.doctor import machine
from commonwatt.doctor.certificates import certificate_findings, revocation_findings
from commonwatt.doctor.findings import Finding, Level, bad, good, warning, worst
from commonwatt.identity.certificates import Kind
from commonwatt.model.time.machine import Machine
from commonwatt.runtime.clock import Clock, read_machine, wall_clock
from harness.real.enrolled import DAY_S, authority, certificate, now
from harness.real.parts import need_root


def only(findings: list[Finding]) -> Finding:
    (finding,) = findings
    return finding


def of_clock(monkeypatch: pytest.MonkeyPatch, now: float, *, synchronised: bool, **words: bool) -> Finding:
    clock = Clock(origin=now, monotonic_origin=0.0, speed=1e-9)
    read: Machine = replace(read_machine(clock), synchronised=synchronised)
    monkeypatch.setattr(machine, "wall_clock", lambda: clock)
    monkeypatch.setattr(machine, "read_machine", lambda _: read)
    return only(list(machine.clock_findings(None, **words)))


def test_a_clock_before_the_release_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    finding = of_clock(monkeypatch, 86_400, synchronised=True)
    assert (finding.level, "1970-01-02" in finding.found) == (Level.BAD, True)


def test_ntp_matters_most_on_the_machine_that_gives_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = wall_clock().now()
    assert of_clock(monkeypatch, now, synchronised=True).level is Level.GOOD
    assert of_clock(monkeypatch, now, synchronised=False).level is Level.WARNING
    assert of_clock(monkeypatch, now, synchronised=False, gives_time=True).level is Level.BAD
    assert of_clock(monkeypatch, now, synchronised=False, gives_time=True, is_right=True).level is Level.GOOD


def test_a_slow_disk_is_a_warning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ticks = iter(range(100))
    monkeypatch.setattr("commonwatt.doctor.machine.time.monotonic", lambda: float(next(ticks)))
    (*_, sync) = machine.disk_findings(tmp_path / "gateway.db")
    assert (sync.level, "1000.0 ms" in sync.found) == (Level.WARNING, True)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_missing_is_bad(tmp_path: Path) -> None:
    finding = only(list(machine.disk_findings(tmp_path / "none" / "gateway.db")))
    assert (finding.level, "make the folder" in finding.remedy) == (Level.BAD, True)


@pytest.mark.parametrize(("days", "level"), [(90, Level.GOOD), (20, Level.WARNING), (0, Level.BAD)])
def test_a_certificate_is_judged_by_its_days_left(days: int, level: Level, tmp_path: Path) -> None:
    path = certificate(authority(tmp_path), Kind.DEVICE, "r001", lifetime_s=days * DAY_S)
    finding = only(list(certificate_findings("certificate", path, named="r001")))
    assert (finding.level, "r001" in finding.found) == (level, True)


@pytest.mark.parametrize(("name", "remedy"), [("10001", "exchange it with the meter"), ("r001", "site init")])
def test_a_certificate_near_its_end_is_warned_of_with_what_to_do(name: str, remedy: str, tmp_path: Path) -> None:
    path = certificate(authority(tmp_path), Kind.DEVICE, name, lifetime_s=20 * DAY_S)
    finding = only(list(certificate_findings("certificate", path, named=name)))
    assert (finding.level, remedy in finding.remedy) == (Level.WARNING, True)


def test_a_certificate_of_another_name_without_its_key_or_revoked_is_bad(tmp_path: Path) -> None:
    made = authority(tmp_path)
    path = certificate(made, Kind.DEVICE, "r001")
    assert "is of r001" in only(list(certificate_findings("certificate", path, named="r002"))).found
    ca, revoked = path.with_name("ca.pem"), path.with_name("revoked.pem")
    assert only(list(certificate_findings("certificate", ca))).level is Level.BAD
    assert only(list(certificate_findings("head_end_ca", ca))).level is Level.GOOD
    assert only(list(revocation_findings("head_end_revoked", revoked, ca, path))).level is Level.GOOD
    made.revoke("r001", "stolen", now())
    found = only(list(revocation_findings("head_end_revoked", revoked, ca, path)))
    assert (found.level, "own certificate is revoked" in found.found) == (Level.BAD, True)
    other = certificate(authority(tmp_path / "other"), Kind.DEVICE, "r001").with_name("ca.pem")
    assert "not signed" in only(list(revocation_findings("head_end_revoked", revoked, other, path))).found


def test_the_first_of_the_worst_comes_first() -> None:
    found = [good("a", ""), warning("b", "", ""), bad("c", "", ""), bad("d", "", "")]
    assert worst(found) is found[2]
    assert worst(found[:2]) is found[1]
    assert worst(found[:1]) is None


@pytest.mark.parametrize("named", [True, False])
def test_root_goes_on_as_the_owner_of_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, named: bool) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text("[broken\n")
    owner = pwd.getpwnam("nobody")
    became: list[object] = []
    uid = owner.pw_uid if named else 54_321  # On a card of another machine.
    real = os.stat_result((*config.stat()[:4], uid, owner.pw_gid, *config.stat()[6:]))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "initgroups", lambda name, group: became.append((name, group)))
    for name in ("setgroups", "setgid", "setuid"):
        monkeypatch.setattr(os, name, became.append)
    monkeypatch.setattr(Path, "stat", lambda _, **__: real)
    done = CliRunner().invoke(make_app("doctor"), ["doctor", "--config", str(config)])
    assert became == [("nobody", owner.pw_gid) if named else [], owner.pw_gid, uid]
    assert (done.exit_code, "bad      settings" in done.stdout) == (1, True)


def test_as_root_with_a_program_that_the_files_owner_can_not_read_it_says_which_to_start() -> None:
    need_root("it takes another user's rights")
    # Not in the test's own folder, which only root may enter.
    with TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        private = folder / "private"
        shutil.copytree(Path(commonwatt.__file__).parent, private / "commonwatt")
        private.chmod(0o700)
        config = folder / "gateway.toml"
        config.write_text('[gateway]\nmicrogrid = "r001"\n')
        os.chown(config, 65_534, 65_534)
        words = [sys.executable, "-m", "commonwatt", "doctor", "--config", str(config)]
        environment = os.environ | {"PYTHONPATH": str(private)}
        done = subprocess.run(
            words, cwd=private, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
    assert "Traceback" not in done.stderr
    assert "(user id 65534) can't read this program (" in done.stderr
    assert f"sudo /opt/commonwatt/current/bin/commonwatt doctor --config {config}" in done.stderr
    assert done.returncode == 2
