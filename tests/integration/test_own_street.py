"""``commonwatt street`` with its processes: its link, killed parts, changes of the site file, stop and start."""

import json
import os
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from commonwatt.config.files import load_settings
from commonwatt.config.settings import settings_of
from commonwatt.site.devices_broker import own_broker
from commonwatt.street.backup import set_passphrase
from harness.network.waiting import eventually, free_port
from harness.real.brokers import listens
from harness.real.deploy import started
from harness.real.own_street import COMMAND, PARTS, OwnStreet, lives


@pytest.fixture
def street(tmp_path: Path) -> Iterator[OwnStreet]:
    found = OwnStreet(tmp_path / "site")
    yield found
    if found.runs():
        assert found.process is not None
        found.process.kill()
        found.process.wait()
    if (found.folder / "processes.json").exists():
        pids = found.pids().values()
        eventually(lambda: not any(map(lives, pids)))


def test_a_street_is_there_by_one_command_stays_and_takes_changes_while_it_runs(street: OwnStreet) -> None:
    """# req: K5, C2"""
    link = street.start()
    assert "/console/invitation/" in link
    with urllib.request.urlopen(link) as page:
        assert page.status == 200
    assert street.pids().keys() == PARTS
    eventually(street.is_well)
    for name in PARTS:
        before = street.pids()[name]
        os.kill(before, signal.SIGKILL)
        eventually(partial(street.is_again, name, before), 10)
    eventually(street.is_well)
    # A change that only the adapter reads, with a broker of devices that was made meanwhile.
    before_all, text = street.pids(), (street.folder / "site.toml").read_text()
    host, port, *_ = own_broker(street.folder, lan=False, port=free_port())
    eventually(partial(listens, host, port))
    assert street.takes(text.replace("source = []", f'source = [{{address = "{host}:{port}"}}]')) == ""
    eventually(partial(street.is_again, "street adapter", before_all["street adapter"]))
    eventually(street.is_well)
    after = street.pids()
    assert {name for name in before_all if after[name] != before_all[name]} == {"street adapter"}
    assert after.keys() == PARTS | {"devices broker"}
    # A bad one is refused in words, and all runs on.
    assert "unknown key" in street.takes(text.replace("houses = 0", "houses = 0\nlanes = 2"))
    assert street.pids() == after
    assert street.is_well()
    assert street.takes(text) == ""


def test_a_street_that_is_stopped_or_killed_starts_again_where_it_was(street: OwnStreet) -> None:
    """# req: K5, T8"""
    link = street.start()
    second = subprocess.run([*COMMAND, str(street.folder)], capture_output=True, text=True, check=False)
    assert second.returncode == 2
    assert "this street runs already" in second.stderr
    where = subprocess.run([*COMMAND, str(street.folder), "--link"], capture_output=True, text=True, check=True)
    assert where.stdout.strip() == link
    tokens = {path: path.read_bytes() for path in street.folder.glob("*/*tokens.json")}
    keys = {path: path.read_bytes() for path in street.folder.glob("*/*.pem") if path.name != "revoked.pem"}
    assert tokens
    assert keys
    pids = street.pids()
    street.stop()
    assert not any(map(lives, pids.values()))
    assert street.start().rpartition("/console")[0] == link.rpartition("/console")[0]
    pids = street.pids()
    assert street.process is not None
    street.process.kill()
    street.process.wait()
    assert street.start().rpartition("/console")[0] == link.rpartition("/console")[0]
    assert not any(map(lives, pids.values())), "the parts end with their supervisor"
    eventually(street.is_well)
    assert {path: path.read_bytes() for path in tokens} == tokens
    assert {path: path.read_bytes() for path in keys} == keys
    street.stop()


def test_a_street_is_backed_up_while_it_runs_and_comes_back_in_another_folder(street: OwnStreet) -> None:
    """# req: T8, K5"""
    link = street.start()
    eventually(street.is_well)
    pids = street.pids()
    set_passphrase(street.folder, "four words of a street")
    (street.folder / "backup-now").touch()
    last = street.folder / "backups" / "last.json"
    eventually(last.exists)
    made = json.loads(last.read_text())
    assert made["fault"] == ""
    assert street.is_well()
    assert street.pids() == pids
    street.stop()
    again = OwnStreet(street.folder.with_name("again"))
    file = street.folder / "backups" / made["name"]
    try:
        came = again.start("--from", str(file), typed="four words of a street\n")
        assert came.rpartition("/console")[0] == link.rpartition("/console")[0]
        eventually(again.is_well)
    finally:
        again.stop()


def test_the_unit_is_ready_when_the_pages_answer_and_its_log_has_no_link(tmp_path: Path) -> None:
    """# req: K5, K2"""
    state, folder = tmp_path / "state", tmp_path / "state-street"
    folder.mkdir()
    with started("commonwatt-street.service", COMMAND[:3], state) as ear:
        while b"READY=1" not in ear.recv(1000):
            pass
        link = subprocess.run([*COMMAND, str(folder / "site"), "--link"], capture_output=True, text=True, check=True)
        port = link.stdout.split("/")[2].rpartition(":")[2]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{link.stdout.strip().split('/', 3)[3]}") as page:
            assert page.status == 200
        keys = load_settings(folder / "site/utility/utility.toml", "utility", settings_of("utility"))
        assert (keys.http, keys.http_plain_text) == (f"0.0.0.0:{port}", True)  # type: ignore[attr-defined] # of the utility
