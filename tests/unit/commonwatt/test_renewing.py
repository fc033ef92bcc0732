"""A certificate file that renews itself: each step is durable, and every interruption leaves a working pair."""

import os
import random
import shutil
import ssl
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from commonwatt.identity.renewing import DUE, SPREAD, CertificateFile
from commonwatt.model.exceptions import ConfigError
from commonwatt.network.tls import own
from harness.care.town import CareTown
from harness.powercut.disk import Disk, records
from harness.powercut.disk import Kind as DiskKind
from harness.powercut.recorder import Recorder, build
from harness.real.enrolled import DAY_S

T = 1_790_000_000
CUTS = 50  # random moments of a power cut, for each way that a renewal may go


@pytest.fixture
def town(tmp_path: Path) -> CareTown:
    return CareTown(tmp_path, ["r001", "r002"], T)


def renew(town: CareTown, file: CertificateFile) -> None:
    file.take(town.post("/renew", file.request()))


def works(file: CertificateFile) -> None:
    """Check that key and certificate fit: TLS takes no others."""
    own(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), file.path)


def beside(file: CertificateFile) -> set[str]:
    names = {path.name.removeprefix(file.path.name) for path in file.path.parent.iterdir()}
    return names & {".new-key", ".next", ".before"}


def test_renewals_are_due_from_two_thirds_of_the_life_on_and_spread(tmp_path: Path) -> None:
    town = CareTown(tmp_path, [f"r{number:03}" for number in range(40)], T)
    due = [(town.file(f"r{number:03}").due() - T) / DAY_S for number in range(40)]
    assert 90 * DUE - 0.1 <= min(due) < 90 * DUE + 1
    assert 90 * (DUE + SPREAD) - 1 < max(due) <= 90 * (DUE + SPREAD)
    assert max(due) < 90 - 21, "before the alarm of 21 days"


def test_the_old_certificate_stays_until_the_new_one_has_connected(town: CareTown) -> None:
    file = town.file("r001")
    old = file.path.read_bytes()
    town.now += 61 * DAY_S
    renew(town, file)
    works(file)
    assert file.is_on_trial
    assert file.path.with_name("device.pem.before").read_bytes() == old
    file.confirm()
    assert (file.is_on_trial, beside(file)) == (False, set())
    assert file.path.stat().st_mode & 0o777 == 0o600


def test_a_new_certificate_that_does_not_connect_gives_way_to_the_old_one(town: CareTown) -> None:
    file = town.file("r001")
    old = file.path.read_bytes()
    renew(town, file)
    assert file.go_back(T + 89 * DAY_S)
    assert (file.path.read_bytes(), beside(file)) == (old, set())


def test_an_old_certificate_that_has_ended_comes_back_no_more(town: CareTown) -> None:
    file = town.file("r001")
    renew(town, file)
    new = file.path.read_bytes()
    assert not file.go_back(T + 90 * DAY_S)
    assert (file.path.read_bytes(), file.is_on_trial) == (new, True)


def test_a_lost_answer_changes_nothing_and_the_next_request_has_the_same_key(town: CareTown) -> None:
    file = town.file("r001")
    old = file.path.read_bytes()
    first = file.request()
    town.post("/renew", first)
    assert file.path.read_bytes() == old
    key = file.path.with_name("device.pem.new-key").read_bytes()
    renew(town, file)
    assert file.path.read_bytes().startswith(key)


def test_each_renewal_has_a_key_of_its_own(town: CareTown) -> None:
    file = town.file("r001")
    keys = set()
    for _ in range(3):
        renew(town, file)
        keys.add(file.path.read_bytes().partition(b"-----BEGIN CERTIFICATE")[0])
    assert len(keys) == 3


def test_a_request_has_no_key(town: CareTown) -> None:
    file = town.file("r001")
    file.path.write_bytes(file.path.read_bytes() * 2)  # The key between certificates, as by a person's hand.
    assert "PRIVATE" not in str(file.request())


@pytest.mark.parametrize("other", ["another key", "another name", "another town", "nothing"])
def test_another_answer_changes_nothing(town: CareTown, tmp_path: Path, other: str) -> None:
    file, mate = town.file("r001"), town.file("r002")
    file.request()
    (tmp_path / "b").mkdir()
    foreign = CareTown(tmp_path / "b", ["r001"], T).file("r001").path.read_text()
    answers: dict[str, dict[str, object]] = {
        "another key": {"certificate": file.path.read_text()},
        "another name": town.post("/renew", mate.request()),
        "another town": {"certificate": foreign},
        "nothing": {},
    }
    old = file.path.read_bytes()
    with pytest.raises(ConfigError):
        file.take(answers[other])
    assert (file.path.read_bytes(), file.is_on_trial) == (old, False)


def test_a_forged_answer_changes_no_list(town: CareTown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a certificate that nobody issued, which begins in 2090, each list could be said to have ended."""
    monkeypatch.setattr("commonwatt.identity.renewing.merged", lambda *_: b"")
    file = replace(town.file("r001"), revoked=town.file("r001").ca.with_name("revoked.pem"))
    file.request()
    (tmp_path / "b").mkdir()
    forged = CareTown(tmp_path / "b", ["r001"], 3_800_000_000).file("r001").path.read_text()
    assert file.revoked is not None
    before = file.revoked.read_bytes()
    with pytest.raises(ConfigError):
        file.take({"certificate": forged, "revoked": "", "issuers": ""})
    assert file.revoked.read_bytes() == before != b""


@pytest.mark.real
@pytest.mark.parametrize("ends", ["confirm", "go_back"])
def test_a_power_cut_at_any_moment_leaves_a_working_pair(town: CareTown, tmp_path: Path, ends: str) -> None:
    folder, ca = tmp_path / "r001", tmp_path / "ca.pem"
    folder.mkdir()
    first = town.file("r001")
    file = CertificateFile(folder / "gateway.pem", ca, "r001")
    shutil.copy(first.path, file.path)
    shutil.copy(first.ca, ca)
    recorder = Recorder(build(tmp_path), folder, tmp_path / "trace")
    script = [sys.executable, "-m", "harness.care.one_renewal", str(file.path), str(ca)]
    script += [str(town.folder / "authority"), str(T + DAY_S), ends]
    subprocess.run(script, env=os.environ | recorder.environment(), check=True)
    positions = [position for position, _ in records(recorder.trace())]
    assert DiskKind.LINKED in {record.kind for _, record in records(recorder.trace())}
    rng = random.Random(1)
    for number in range(CUTS):
        # Each operation once, then random ones.
        until = positions[number] if number < len(positions) else rng.choice(positions)
        disk = Disk(recorder.base, number)
        for position, record in records(recorder.trace()):
            if position <= until:
                disk.feed(record)
        for path in folder.iterdir():
            path.unlink()
        for name, content in disk.after_cut(rng).items():
            Path(name).write_bytes(content)
        works(file)  # What a service finds at its start, before the gateway looks.
        file.settle()
        works(file)
        if file.is_on_trial:
            file.confirm()
        town.renewals._allowances.clear()
        renew(town, file)
        file.confirm()
        works(file)
        assert beside(file) == set()
