"""Root takes what a gateway fetched if the town's authority signed it for this machine; it follows no link."""

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from commonwatt.care.connection import MAX_ANSWER_BYTES
from commonwatt.identity.authority import Authority
from commonwatt.site.bundle import read_bundle, write_bundle
from commonwatt.site.machine import AUTHORITY
from harness.real.deploy import machine_root
from tests.unit.commonwatt import test_site
from tests.unit.commonwatt.test_site import SITE, STATE, changed, good, run, stated, unpacked

_forked, made, office = test_site._forked, test_site.made, test_site.office


@pytest.fixture
def root(office: Path, tmp_path: Path) -> Path:
    """Return the machine of r001, with its first bundle."""
    root = machine_root(tmp_path / "root")
    unpacked(office, root)
    (root / STATE / "r001/upgrade").mkdir()
    return root


def fetched(root: Path, content: bytes, **other: Any) -> dict[str, str]:
    """Return root's result of what a gateway left."""
    folder = root / STATE / "r001/upgrade"
    (folder / "unpack.json").write_text(json.dumps({"id": "1", "bundle": base64.b64encode(content).decode()} | other))
    return result(root)


def result(root: Path) -> dict[str, str]:
    folder = root / STATE / "r001/upgrade"
    assert run(root, "unpack", "--root", str(root)).exit_code == 0
    assert not (folder / "unpack.json").exists(), "otherwise systemd would start the unit again and again"
    found: dict[str, str] = json.loads((folder / "unpacked.json").read_text())
    return found


def packed(office: Path, place: str = "r001", **other: Any) -> bytes:
    """Return a bundle, signed by the office."""
    bundle = read_bundle(office / f"{place}.bundle")
    path = office / "changed.bundle"
    write_bundle(changed(bundle, **other) if other else bundle, path, Authority.load(office / "site"))
    return path.read_bytes()


@pytest.fixture
def newer(office: Path) -> bytes:
    """Return a bundle of r001 with another setting."""
    file = office / "site/site.toml"
    file.write_text(file.read_text().replace('"10.1.0.1"\n', '"10.1.0.1"\ngateway = {relay_s = 900}\n'))
    good(office, "init")
    good(office, "pack", "r001")
    return (office / "r001.bundle").read_bytes()


def test_a_newer_bundle_is_installed_and_what_must_is_restarted(root: Path, newer: bytes) -> None:
    folder = root / STATE / "r001/upgrade"
    (folder / "unpack.json").write_text(json.dumps({"id": "1", "bundle": base64.b64encode(newer).decode()}))
    said = good(root, "unpack", "--root", str(root))
    assert "systemctl restart commonwatt-gateway@r001.service\n" in said
    assert json.loads((folder / "unpacked.json").read_text()) == {"id": "1", "result": "done"}
    assert "relay_s = 900" in (root / STATE / "r001/gateway.toml").read_text()
    assert fetched(root, newer, id="2") == {"id": "2", "result": "done"}, "again it changes nothing"


def test_an_older_bundle_is_refused_unless_it_says_the_same(office: Path, root: Path, newer: bytes) -> None:
    made = read_bundle(office / "r001.bundle").manifest.made
    assert fetched(root, newer)["result"] == "done"
    old = packed(office, made=made - 60)
    (root / STATE / "installed.json").write_bytes(before := (root / STATE / "installed.json").read_bytes())
    assert fetched(root, old)["result"] == "done"
    assert (root / STATE / "installed.json").read_bytes() == before, "what is older than it stays refused"
    other = packed(office, made=made - 60, mosquitto=True)
    said = fetched(root, other)
    assert said["result"] == "refused"
    assert "may admit revoked devices" in said["reason"]


def test_what_this_machines_authority_did_not_sign_for_it_is_refused(office: Path, root: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in (root / STATE / "r001").iterdir() if path.is_file()}
    stated(tmp_path / "other", SITE)
    good(tmp_path / "other", "init")
    good(tmp_path / "other", "pack", "r001")
    forged = (tmp_path / "other/r001.bundle").read_bytes()
    assert "of another town" in fetched(root, forged)["reason"]
    # The services' user put the thief's authority in place of its own copy.
    shutil.copy(tmp_path / "other/site/authority/ca.pem", root / STATE / "r001/ca.pem")
    assert "of another town" in fetched(root, forged)["reason"]
    (root / STATE / "r001/ca.pem").write_bytes(before[root / STATE / "r001/ca.pem"])
    assert "is of r002, but this machine is of r001" in fetched(root, packed(office, "r002"))["reason"]
    assert "damaged" in fetched(root, b"no bundle")["reason"]
    assert "more than" in fetched(root, bytes(MAX_ANSWER_BYTES))["reason"]
    assert fetched(root, b"", bundle=7)["result"] == "refused"
    assert {path: path.read_bytes() for path in before} == before
    (root / AUTHORITY.lstrip("/")).unlink()
    assert fetched(root, packed(office))["result"] == "done", "it is what is installed"
    (root / STATE / "installed.json").unlink()
    assert "authority.pem" in fetched(root, packed(office))["reason"], "a file of the services' user does not count"


def test_root_reads_nothing_by_a_link_of_the_services(office: Path, root: Path, tmp_path: Path, newer: bytes) -> None:
    folder, secret = root / STATE / "r001/upgrade", tmp_path / "secret"
    secret.write_text('{"password": "of root"}')
    (folder / "unpack.json").symlink_to(secret)
    assert "password" not in json.dumps(result(root))
    (root / STATE / "installed.json").unlink()
    (root / STATE / "installed.json").symlink_to(secret)
    assert fetched(root, newer) == {"id": "1", "result": "done"}
    folder.rename(folder.with_name("aside"))
    folder.symlink_to(tmp_path)
    (tmp_path / "unpack.json").write_text("{}")
    assert run(root, "unpack", "--root", str(root)).exit_code == 2
    assert not (tmp_path / "unpacked.json").exists()
    assert secret.read_text() == '{"password": "of root"}'
