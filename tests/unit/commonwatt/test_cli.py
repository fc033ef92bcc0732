"""``commonwatt``: its help, mistyped commands, and the checks and words of doctor and status."""

import json
import os
import pwd
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner, Result

import commonwatt
from commonwatt.cli.main import group_in_outline, make_app, outline
from commonwatt.cli.status import MAX_LINE, ask, lines
from commonwatt.doctor import checks
from commonwatt.doctor.checks import (
    Finding,
    Level,
    bad,
    certificate_findings,
    good,
    revocation_findings,
    warning,
    worst,
)
from commonwatt.identity.certificates import Purpose
from commonwatt.model.time import MachineClocks
from commonwatt.network.http_server import HttpServer
from commonwatt.network.tls import server_context
from commonwatt.runtime.clock import Clock, read_machine, wall_clock
from harness.care.certificates import DAY_S, authority, certificate, now
from harness.network.waiting import free_port
from harness.real.parts import need_root


@pytest.mark.parametrize(
    ("line", "near"),
    [
        ("gatway run", "gateway"),
        ("site pac", "pack"),
        ("swap metre", "meter"),
        ("utility people invit", "invite"),
        ("status --confg x", "--config"),
        ("site pack r001 --sit x", "--site"),
    ],
)
def test_a_mistyped_command_or_option_is_answered_with_the_nearest(line: str, near: str) -> None:
    words = line.split()
    done = CliRunner().invoke(make_app(words[0]), words)
    assert done.exit_code == 2
    assert re.search(rf"(Did you mean|Possible options:).*{near}", done.output)


GROUPS = [name for name, one in outline()["commands"].items() if one.get("commands")]


def help_of(app: object, *words: str) -> str:
    return CliRunner().invoke(app, [*words, "--help"], prog_name="commonwatt").output  # type: ignore[arg-type]


def test_help_without_commands_is_that_with_all_of_them() -> None:
    assert help_of(make_app("")) == help_of(make_app())
    assert "utility" in help_of(make_app(""))


@pytest.mark.parametrize("group", GROUPS)
def test_help_of_a_group_is_the_same_without_its_commands(group: str) -> None:
    assert help_of(group_in_outline(group), group) == help_of(make_app(group), group)


def test_a_command_is_no_group() -> None:
    assert group_in_outline("demo") is None
    assert group_in_outline("nothing") is None


def only(findings: list[Finding]) -> Finding:
    (finding,) = findings
    return finding


def of_clock(monkeypatch: pytest.MonkeyPatch, now: float, *, synchronised: bool, **words: bool) -> Finding:
    clock = Clock(origin=now, monotonic_origin=0.0, speed=1e-9)
    read: MachineClocks = replace(read_machine(clock), synchronised=synchronised)
    monkeypatch.setattr(checks, "wall_clock", lambda: clock)
    monkeypatch.setattr(checks, "read_machine", lambda _: read)
    return only(list(checks.clock_findings(None, **words)))


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
    monkeypatch.setattr("commonwatt.doctor.checks.time.monotonic", lambda: float(next(ticks)))
    (*_, sync) = checks.disk_findings(tmp_path / "gateway.db")
    assert (sync.level, "1000.0 ms" in sync.found) == (Level.WARNING, True)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_missing_is_bad(tmp_path: Path) -> None:
    finding = only(list(checks.disk_findings(tmp_path / "none" / "gateway.db")))
    assert (finding.level, "make the folder" in finding.remedy) == (Level.BAD, True)


@pytest.mark.parametrize(("days", "level"), [(90, Level.GOOD), (20, Level.WARNING), (0, Level.BAD)])
def test_a_certificate_is_judged_by_its_days_left(days: int, level: Level, tmp_path: Path) -> None:
    path = certificate(authority(tmp_path), Purpose.DEVICE, "r001", lifetime_s=days * DAY_S)
    finding = only(list(certificate_findings("certificate", path, named="r001")))
    assert (finding.level, "r001" in finding.found) == (level, True)


@pytest.mark.parametrize(("name", "remedy"), [("10001", "exchange it with the meter"), ("r001", "site init")])
def test_a_certificate_near_its_end_is_warned_of_with_what_to_do(name: str, remedy: str, tmp_path: Path) -> None:
    path = certificate(authority(tmp_path), Purpose.DEVICE, name, lifetime_s=20 * DAY_S)
    finding = only(list(certificate_findings("certificate", path, named=name)))
    assert (finding.level, remedy in finding.remedy) == (Level.WARNING, True)


def test_a_certificate_of_another_name_without_its_key_or_revoked_is_bad(tmp_path: Path) -> None:
    made = authority(tmp_path)
    path = certificate(made, Purpose.DEVICE, "r001")
    assert "is of r001" in only(list(certificate_findings("certificate", path, named="r002"))).found
    ca, revoked = path.with_name("ca.pem"), path.with_name("revoked.pem")
    assert only(list(certificate_findings("certificate", ca))).level is Level.BAD
    assert only(list(certificate_findings("head_end_ca", ca))).level is Level.GOOD
    assert only(list(revocation_findings("head_end_revoked", revoked, ca, path))).level is Level.GOOD
    made.revoke("r001", "stolen", now())
    found = only(list(revocation_findings("head_end_revoked", revoked, ca, path)))
    assert (found.level, "own certificate is revoked" in found.found) == (Level.BAD, True)
    other = certificate(authority(tmp_path / "other"), Purpose.DEVICE, "r001").with_name("ca.pem")
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


TOLD = {"time": 1_800_014_400, "connected": {"meters": True, "head_end": False}, "alarms": []}


@pytest.fixture
def address() -> Iterator[str]:
    address = f"127.0.0.1:{free_port()}"
    server = HttpServer(address, CollectorRegistry(), lambda: TOLD)
    server.start()
    yield address
    server.stop()


@pytest.fixture
def asked(tmp_path: Path) -> Callable[..., Result]:
    def run(text: str, *words: str) -> Result:
        config = tmp_path / "part.toml"
        config.write_text(text)
        return CliRunner().invoke(make_app("status"), ["status", "--config", str(config), *words])

    return run


def test_a_part_that_runs_is_told_line_by_line(asked: Callable[..., Result], address: str) -> None:
    done = asked(f'[gateway]\nmicrogrid = "r001"\nhttp = "{address}"\n')
    assert "times: UTC\ntime: 2027-01-15 12:00:00Z\nconnected: meters yes, head_end no\nalarms: none\n" in done.stdout
    assert json.loads(asked(f'[broker]\nhttp = "{address}"\n', "--json").stdout) == TOLD


def test_one_that_listens_everywhere_is_asked_on_its_own_machine(asked: Callable[..., Result], address: str) -> None:
    everywhere = f"0.0.0.0:{address.rpartition(':')[2]}"
    done = asked(f'[broker]\nhttp = "{everywhere}"\nhttp_plain_text = true\n')
    assert (done.exit_code, "alarms: none" in done.stdout) == (0, True)


def test_one_that_does_not_answer_fails_and_says_where(asked: Callable[..., Result]) -> None:
    address = f"127.0.0.1:{free_port()}"
    done = asked(f'[utility]\nhttp = "{address}"\n')
    assert done.exit_code == 1
    assert f"the utility does not answer at {address}" in done.stderr


def test_a_broker_without_an_address_says_what_to_add(asked: Callable[..., Result]) -> None:
    done = asked("[broker]\n")
    assert (done.exit_code, "has no http" in done.stderr) == (2, True)


def test_what_is_no_part_of_ours_is_told(asked: Callable[..., Result], address: str, tmp_path: Path) -> None:
    at = f"127.0.0.1:{free_port()}"
    stranger = HttpServer(at, CollectorRegistry(), lambda: [1])  # type: ignore[arg-type,return-value]
    stranger.start()
    try:
        done = asked(f'[broker]\nhttp = "{at}"\n')
    finally:
        stranger.stop()
    assert (done.exit_code, "another program" in done.stderr) == (1, True)


def test_what_is_long_is_counted() -> None:
    long = {f"meter {number}": {"level": number} for number in range(MAX_LINE)}
    told = {"batteries": long, "donors": ["1", "2"], "reason": "x" * MAX_LINE * 2}
    assert lines(told) == [f"batteries: {MAX_LINE}", "donors: 1, 2", f"reason: {'x' * MAX_LINE * 2}"]


def test_the_schedule_in_force_and_its_source_are_one_line() -> None:
    told = {"periods": {"collect_s": 60, "relay_s": 900}, "tuned": ["relay_s"]}
    assert lines(told) == ["schedule: collect 60 s (file), relay 900 s (tuned by the utility)"]


def test_a_silent_meter_is_shown_with_its_last_message() -> None:
    told = {"meters": {"silent": {"10001": 1_800_014_400, "10002": None}}}
    assert lines(told) == ["meters: silent (10001 2027-01-15 12:00:00Z, 10002 not heard yet)"]


def test_over_https_the_certificate_of_its_file_is_believed_and_no_other(tmp_path: Path) -> None:
    own = certificate(authority(tmp_path / "a"), Purpose.BROKER, "utility")
    other = certificate(authority(tmp_path / "b"), Purpose.BROKER, "utility")
    address = f"127.0.0.1:{free_port()}"
    server = HttpServer(address, CollectorRegistry(), lambda: TOLD)
    server.start()
    assert server._server is not None
    server._server.socket = server_context(own).wrap_socket(server._server.socket, server_side=True)
    config = tmp_path / "utility.toml"
    try:
        config.write_text(f'[utility]\nhttp = "{address}"\nhttp_certificate = "{own}"\n')
        assert ask(config) == TOLD
        config.write_text(f'[utility]\nhttp = "{address}"\nhttp_certificate = "{other}"\n')
        with pytest.raises(Exception, match="certificate verify failed"):
            ask(config)
    finally:
        server.stop()
