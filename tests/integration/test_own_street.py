"""``commonwatt street`` with its processes: its link, killed parts, changes of the site file, stop and start."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from commonwatt.config.files import load_settings
from commonwatt.config.settings import settings_of
from commonwatt.doctor.running import fetch_status, local_headers
from commonwatt.runtime.supervisor import STOP_WITHIN_S
from commonwatt.site.devices_broker import own_broker
from commonwatt.street.backup import set_passphrase
from harness.network.waiting import ended, eventually, free_port
from harness.real.brokers import listens
from harness.real.deploy import started

COMMAND = [sys.executable, "-m", "commonwatt", "street", "--site"]
PARTS = {"utility", "head-end broker", "street broker", "street gateway", "street adapter"}


class OwnStreet:
    """A street of a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said = folder.with_name("said")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str, typed: str = "") -> str:
        """Start it, and return the link that it prints."""
        words = [*COMMAND, str(self.folder), *options]
        with self.said.open("wb") as out, tempfile.TemporaryFile() as answers:
            answers.write(typed.encode())
            answers.seek(0)
            # Without a terminal, the answers are read there.
            self.process = subprocess.Popen(
                words, stdin=answers, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )
        eventually(lambda: self._link() or not self.runs())
        assert self.runs(), self.said.read_text()
        return self._link()

    def _link(self) -> str:
        return next(iter(re.findall(r"http://\S+", self.said.read_text())), "")

    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        assert ended(self.process, 4 * STOP_WITHIN_S) == 0, self.said.read_text()

    def pids(self) -> dict[str, int]:
        found: dict[str, int] = json.loads((self.folder / "processes.json").read_text())
        return found

    def is_again(self, name: str, before: int) -> bool:
        """Return whether a part has another process than before."""
        return self.pids().get(name, before) != before

    def answers(self, place: str, part: str) -> bool:
        """Return whether a part answers on its own address."""
        config = self.folder / place / f"{part}.toml"
        settings = load_settings(config, part, settings_of(part))
        with suppress(OSError):
            return bool(fetch_status(getattr(settings, "http"), None, local_headers(settings)))  # noqa: B009
        return False

    def is_well(self) -> bool:
        others = [("utility", "utility"), ("street", "broker"), ("street", "gateway"), ("street", "adapter")]
        return all(self.answers(*other) for other in others)

    def takes(self, text: str) -> str:
        """Change the site file, wait until it is taken or refused, and return why it is refused."""
        (self.folder / "site.toml").write_text(text)
        wanted = hashlib.sha256(text.encode()).hexdigest()

        def applied() -> dict[str, str]:
            found: dict[str, str] = json.loads((self.folder / "applied.json").read_text())
            return found

        eventually(lambda: applied()["sha256"] == wanted)
        return applied()["fault"]


def lives(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


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
