"""``commonwatt doctor`` and the verdict of ``commonwatt status`` at real processes, with each thing broken once."""

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from commonwatt.doctor.connection import Target, connection_findings
from commonwatt.identity.authority import Authority
from commonwatt.identity.certificates import Purpose
from commonwatt.identity.devices import load_tokens, new_token, save_tokens
from commonwatt.protocol.topics import all_meters_up
from commonwatt.runtime.clock import boot_id
from gateway.controller import GOOD_TIME
from gateway.store.changes import Setting
from gateway.store.store import Store
from gateway.timekeeper import KeptTime
from harness.care.certificates import DAY_S, certificate, now
from harness.network.waiting import eventually, free_port
from harness.real import forks
from harness.real.parts import need_root, real_part
from harness.real.site import Site

TOWN = "".join(f'[[microgrid]]\nid = "{name}"\nkind = "residential"\nhouses = 1\n' for name in ("r001", "r002"))
GATEWAY, BROKER, METERS = "r001 gateway", "r001 broker", "r001 meters"
COMMAND = [sys.executable, "-m", "commonwatt"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A town whose brokers run; TLS at the head-end."""
    with Site(tmp_path_factory.mktemp("doctor") / "town", TOWN, speed=60, plain_text=False) as site:
        site.start("head-end", BROKER)
        yield site


class Found:
    """The findings of one examination, by check."""

    def __init__(self, code: int, output: str) -> None:
        told = json.loads(output)
        self.all = {
            finding["check"]: (finding["level"], finding["found"], finding["remedy"]) for finding in told["findings"]
        }
        self.bad = {check: f"{text} -> {remedy}" for check, (level, text, remedy) in self.all.items() if level == "bad"}
        assert (code, told["good"]) == ((1, False) if self.bad else (0, True))
        assert all(bool(remedy) == (level != "good") for level, _, remedy in self.all.values()), self.all

    def good(self, *checks: str) -> bool:
        return all(self.all[check][0] == "good" for check in checks)


def examined(config: Path) -> Found:
    done = forks.run([*COMMAND, "doctor", "--json", "--config", str(config)])
    assert not done.stderr, done.stderr
    return Found(done.returncode, done.stdout)


def verdict(config: Path) -> str:
    return forks.run([*COMMAND, "status", "--config", str(config)], check=True).stdout.splitlines()[0]


@pytest.fixture
def copy(site: Site, tmp_path: Path) -> Path:
    """The file of a gateway r001 that does not run, with ports and files of its own."""
    folder = tmp_path / "r001"
    shutil.copytree(site.folder / "r001", folder, ignore=shutil.ignore_patterns("*.db*"))
    shutil.copyfile(site.folder / "clock.json", tmp_path / "clock.json")
    change(folder / "gateway.toml", http=f"127.0.0.1:{free_port()}")
    return folder / "gateway.toml"


def change(config: Path, **keys: object) -> None:
    """Set keys of a file; ``None`` leaves a key out."""
    lines = [line for line in config.read_text().splitlines() if line.partition(" =")[0] not in keys]
    lines += [f"{key} = {json.dumps(value)}" for key, value in keys.items() if value is not None]
    config.write_text("\n".join(lines) + "\n")


def connects(site: Site, *brokers: str) -> list[float]:
    return [site.metric(name, "commonwatt_broker_connects_total") for name in brokers]


def test_a_running_part_is_good_and_stays_undisturbed(site: Site) -> None:
    site.start("utility", METERS)
    site.start(GATEWAY)
    gateway = site.layout.part(GATEWAY).config

    def all_work() -> bool:
        status = site.status(GATEWAY)
        assert status is not None
        return all(status["connected"].values()) and not status["meters"]["silent"]

    eventually(all_work)
    before = connects(site, "head-end", BROKER)
    for name in (BROKER, "utility", METERS, GATEWAY):
        found = examined(site.layout.part(name).config)
        assert (found.bad, found.good("service", "port http")) == ({}, True), name
    assert found.good("broker", "head_end", "store", "registry", "LTE", "disk", "certificate")
    assert "meters" not in found.all, "none is silent"
    assert connects(site, "head-end", BROKER) == before
    assert verdict(gateway).startswith("verdict: working")
    other = gateway.with_name("other.toml")
    shutil.copyfile(gateway, other)
    change(other, http=f"127.0.0.1:{free_port()}")
    found = examined(other)
    assert list(found.bad) == ["service"], "its store is locked: it runs"
    assert "not tried" in found.all["broker"][1]
    assert connects(site, "head-end", BROKER) == before
    site.stop("utility", GATEWAY, METERS)


def test_a_running_gateway_without_its_broker_is_not_working(site: Site, copy: Path) -> None:
    tokens = site.folder / "r001" / "gateway-tokens.json"
    right = tokens.read_bytes()
    save_tokens(tokens, {"r001": new_token()})
    gateway = site.layout.part(GATEWAY).config
    try:
        site.start(GATEWAY)
        eventually(lambda: len((site.status(GATEWAY) or {}).get("connection_failures", ())) == 2)
        found = examined(gateway)
        assert "Bad user name or password" in found.bad["broker"]
        assert "copy the folders" in found.bad["broker"]
        said = verdict(gateway)
        words = "verdict: not working: No connection to the meters' broker: the broker refused it: Bad user name"
        assert said.startswith(words)
        assert said.endswith(f"commonwatt doctor --config {gateway}.")
    finally:
        tokens.write_bytes(right)
        site.stop(GATEWAY)


def test_a_stopped_part_tries_its_connections_once(site: Site, copy: Path) -> None:
    found = examined(copy)
    assert (found.bad, found.all["service"][0]) == ({}, "warning")
    assert found.good("broker", "head_end")
    assert found.all["head_end"][1].endswith("accepts r001")
    for name in ("utility", METERS):
        found = examined(site.layout.part(name).config)
        assert (found.bad, found.good("head_end" if name == "utility" else "broker")) == ({}, True)


def test_wrong_settings_are_named_with_their_line(copy: Path) -> None:
    change(copy, brocker="127.0.0.1:1883")
    assert "brocker" in examined(copy).bad["settings"]
    assert "No such file" in examined(copy.with_name("none.toml")).bad["settings"]


def test_a_wrong_token_a_name_and_a_port(copy: Path) -> None:
    save_tokens(copy.with_name("gateway-tokens.json"), {"r001": new_token()})
    port = free_port()
    change(copy, head_end="no-such-host.invalid:8883")
    found = examined(copy)
    assert list(found.bad) == ["broker", "head_end"]
    assert "Bad user name or password" in found.bad["broker"]
    assert "getent hosts no-such-host.invalid" in found.bad["head_end"]
    change(copy, head_end=f"127.0.0.1:{port}")
    assert "correct the port of head_end" in examined(copy).bad["head_end"]


def test_a_gateway_that_its_broker_does_not_know(site: Site, copy: Path) -> None:
    change(copy, microgrid="r003")
    tokens = load_tokens(copy.with_name("gateway-tokens.json"))
    save_tokens(copy.with_name("gateway-tokens.json"), {"r003": tokens["r001"]})
    bad = examined(copy).bad
    assert "register r003" in bad["broker"]
    assert "is of microgrid r001" in bad["registry"]
    assert "is of r001" in bad["certificate"]


def test_a_wrong_registry(site: Site, copy: Path) -> None:
    shutil.copyfile(site.folder / "r002" / "registry.json", copy.with_name("registry.json"))
    found = examined(copy)
    assert set(found.bad) == {"files", "registry"}
    assert "is of microgrid r002" in found.bad["registry"]


def test_an_expired_certificate(site: Site, copy: Path) -> None:
    made = Authority.load(site.folder)
    old = certificate(made, Purpose.DEVICE, "r001", file="old/gateway.pem", lifetime_s=DAY_S, at=now() - 3 * DAY_S)
    change(copy, certificate=str(old))
    found = examined(copy)
    assert list(found.bad) == ["certificate", "head_end"]
    assert "expired 2.0 days ago" in found.bad["certificate"]
    assert "site init" in found.bad["certificate"]
    assert "see the lines `certificate`" in found.bad["head_end"]


def test_the_broker_of_another_address_or_another_authority(site: Site, copy: Path) -> None:
    port = site.address("head-end")[1]
    change(copy, head_end=f"127.0.0.2:{port}")
    assert "Connection refused" in examined(copy).bad["head_end"]
    change(copy, head_end=f"127.1:{port}")
    assert "mismatch" in examined(copy).bad["head_end"]
    Authority.create(copy.parent / "other", "other", now())
    change(copy, head_end=f"127.0.0.1:{port}", head_end_ca="other/authority/ca.pem", head_end_revoked=None)
    assert "compare the clock, head_end and head_end_ca" in examined(copy).bad["head_end"]


def test_a_port_that_is_taken(copy: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{other.getsockname()[1]}"
        change(copy, http=address)
        bad = examined(copy).bad
        assert list(bad) == ["port http"]
        assert "taken by another program" in bad["port http"]
        broker = copy.with_name("broker.toml")
        change(broker, listen=address, http=None)
        found = examined(broker)
        assert (found.bad, found.all["port listen"][0]) == ({}, "warning"), "it may be the broker itself, or Mosquitto"
    change(copy, http="192.0.2.1:9101", http_plain_text=True)
    assert "address of this machine" in examined(copy).bad["port http"]


def test_a_full_disk_and_a_read_only_one(copy: Path, tmp_path: Path) -> None:
    need_root("a small disk is mounted")
    disk = tmp_path / "disk"
    disk.mkdir()
    change(copy, store=str(disk / "gateway.db"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", disk], check=True)
    try:
        (disk / "other").write_bytes(bytes(5_000_000))
        assert "too little" in examined(copy).bad["disk"]
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        assert "read-only" in examined(copy).bad["disk"]
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_damaged_store(copy: Path) -> None:
    Store.open(copy.with_name("gateway.db")).close()
    with copy.with_name("gateway.db").open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 100)
    assert "start the gateway" in examined(copy).bad["store"]


def test_a_clock_that_is_behind(copy: Path) -> None:
    change(copy, clock=None, head_end_revoked=None)
    store = Store.open(copy.with_name("gateway.db"))
    kept = KeptTime(time=time.time(), boot=boot_id(), since_boot_s=0, wall_off_s=0)
    store.commit([Setting(GOOD_TIME, kept.model_dump_json())])
    store.close()
    command = [str(real_part("faketime")), "2026-02-01 00:00:00", *COMMAND, "doctor", "--json", "--config", str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    bad = Found(done.returncode, done.stdout).bad
    assert "s behind: the store has seen" in bad["clock offset"]
    assert "timedatectl" in bad["clock offset"]
    assert "valid only from" in bad["certificate"]


def test_a_filter_that_the_broker_refuses(site: Site) -> None:
    tokens = load_tokens(site.folder / "r001" / "gateway-tokens.json")
    target = Target(
        setting="broker",
        address=":".join(map(str, site.address(BROKER))),
        ca=None,
        certificate=None,
        revoked=None,
        identity="r001",
        token=lambda: tokens["r001"],
        subscribe=all_meters_up("r009"),
    )
    (found,) = connection_findings(target, None)
    assert (found.level, "does not allow it to subscribe" in found.found) == ("bad", True)
