"""``commonwatt street`` without its processes: the folder, the site file, the plan of changes, refusals."""

import errno
import hashlib
import json
import os
import random
import re
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import pytest
from typer.testing import CliRunner

from commonwatt.cli.main import make_app
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import MADE
from commonwatt.runtime.service import only_one
from commonwatt.runtime.supervisor import SupervisedPart, claim_port
from commonwatt.site import devices_broker
from commonwatt.site.bundle import BUNDLES, read_bundle
from commonwatt.site.devices_broker import adapter_login, next_free, own_broker
from commonwatt.site.machine import Machine
from commonwatt.site.places import load_site
from commonwatt.sqlite import copy_of, snapshot
from commonwatt.street import cli
from commonwatt.street import folder as module
from commonwatt.street.backup import back_up, restore, set_passphrase
from commonwatt.street.backup import main as backup_program
from commonwatt.street.cli import UNIT, UNIT_FOLDER
from commonwatt.street.folder import APPLIED_FILE, PARTS_FILE, _serve, apply, first_site, link_of, prepare
from commonwatt.street.keeper import Keeper
from harness.network.waiting import free_port
from harness.real import forks
from harness.real.deploy import DEPLOY


@pytest.fixture(autouse=True, scope="module")
def _forked() -> Iterator[None]:
    forks.run([sys.executable, "-c", "pass"], check=True)
    with patch("commonwatt.site.office.subprocess.run", forks.run):
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "site"
    with patch.object(module, "HTTP_PORT", free_port()):
        prepare(folder, lan=False, say=pytest.fail)
    return folder


@pytest.fixture
def street(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "site"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_cared_for_controller_elsewhere_has_a_bundle_that_is_packed_again_when_it_changed(street: Path) -> None:
    changed(street, "[site]\n", "[site]\ncare = 8444\n")
    more = '[[microgrid]]\nid = "mill"\nkind = "residential"\nhouses = 1\naddress = "10.0.0.9"\n'
    (street / "site.toml").write_text((street / "site.toml").read_text() + more)
    path = street / "utility" / BUNDLES / "mill.bundle"
    assert apply(street) == ""
    first = path.read_bytes()
    assert not list(path.parent.glob("street*")), "the street's own controller has its files"
    assert not {"mill/gateway.pem", "mill/broker.pem"} & read_bundle(path).files.keys(), "its keys are made there"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert apply(street) == ""
    assert path.read_bytes() == first, "the controller is told nothing new"
    (street / "site.toml").write_text((street / "site.toml").read_text() + "gateway = {relay_s = 900}\n")
    assert apply(street) == ""
    assert b"relay_s = 900" in read_bundle(path).files["mill/gateway.toml"]
    changed(street, "care = 8444\n", "")
    assert apply(street) == ""
    assert not path.exists(), "without care a person carries it"


def applied(folder: Path) -> tuple[bool, str]:
    """Return whether the present site file was looked at, and what is wrong with it."""
    found = json.loads((folder / APPLIED_FILE).read_text())
    return found["sha256"] == hashlib.sha256((folder / "site.toml").read_bytes()).hexdigest(), found["fault"]


def changed(folder: Path, before: str, after: str) -> None:
    text = (folder / "site.toml").read_text()
    assert before in text
    (folder / "site.toml").write_text(text.replace(before, after))


def parts(folder: Path) -> dict[str, str]:
    return {one["part"]["name"]: one["digest"] for one in json.loads((folder / PARTS_FILE).read_text())}


def test_an_empty_folder_becomes_a_street_and_a_second_time_nothing_changes(street: Path) -> None:
    """# req: K5, C2"""
    assert applied(street) == (True, "")
    assert list(parts(street)) == ["utility", "head-end broker", "street broker", "street gateway", "street adapter"]
    assert street.stat().st_mode & 0o777 == 0o700
    before = contents(street)
    prepare(street, lan=False, say=pytest.fail)
    # The list of parts has this folder's own path.
    assert {name for name, content in contents(street).items() if before[name] != content} == {PARTS_FILE}
    assert link_of(street) == f"http://{module._utility(street)['http']}/", "no utility ran: there is no first link"


@pytest.mark.parametrize("host", ["pi", "Büro"])
def test_the_home_network_is_served_when_it_was_asked_for_and_own_keys_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: host)
    path = tmp_path / "site.toml"
    path.write_text(first_site(8083, lan=True).replace('site = ".."', 'site = ".."\ngaps_s = 99'))
    keys = load_site(path)[0].utility
    names = ["pi", "pi.local"] if host == "pi" else []
    assert (keys["http"], keys["http_plain_text"], keys["http_hosts"]) == ("0.0.0.0:8083", True, names)
    served = path.read_text()
    _serve(path, lan=True)
    assert path.read_text() == served
    _serve(path, lan=False)
    file = load_site(path)[0]
    assert file.utility.items() >= {"http": "127.0.0.1:8083", "database": "sqlite:///utility.db", "gaps_s": 99}.items()
    assert not {"http_plain_text", "http_hosts"} & file.utility.keys()
    _serve(path, lan=True)
    assert load_site(path)[0].utility == keys
    assert load_site(path)[0].microgrid == file.microgrid


def test_pages_that_a_person_serves_by_https_stay_so(tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    path.write_text(first_site(8083, lan=True).replace('site = ".."', 'http_certificate = "own.pem"'))
    text = path.read_text()
    _serve(path, lan=False)
    assert path.read_text() == text


def test_a_port_in_use_gives_the_next_free_one_which_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port, said = free_port(), list[str]()
    monkeypatch.setattr(module, "HTTP_PORT", port)
    with socket.create_server(("127.0.0.1", port)):
        prepare(tmp_path / "site", lan=False, say=said.append)
    chosen = module._utility(tmp_path / "site")["http"]
    assert chosen != f"127.0.0.1:{port}"
    assert said == [
        f"port {port} is in use by another program: the pages are at port {chosen.split(':')[1]}, and stay there"
    ]
    prepare(tmp_path / "site", lan=False, say=pytest.fail)
    assert module._utility(tmp_path / "site")["http"] == chosen
    monkeypatch.setattr(module, "_FREED_WITHIN_S", 0)
    with (
        socket.create_server(("127.0.0.1", int(chosen.split(":")[1]))),
        pytest.raises(
            ConfigError, match=rf"{chosen}, where the pages were, can't be used: Address already in use; stop the"
        ),
    ):
        prepare(tmp_path / "site", lan=False, say=pytest.fail)


def test_a_port_that_another_street_has_chosen_is_taken_by_none_before_its_parts_listen() -> None:
    words = (
        "from commonwatt.site.devices_broker import next_free; print(next_free({0}, '127.0.0.1'), flush=True); input()"
    )
    other = [sys.executable, "-c", words.format(free_port())]
    with subprocess.Popen(other, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as street:
        assert street.stdout is not None
        port = int(street.stdout.readline())
        assert next_free(port, "127.0.0.1") > port
        with pytest.raises(OSError, match="in use"):
            claim_port(port)
        street.communicate(b"\n")
    claim_port(port)


def test_a_bad_site_file_changes_nothing_and_the_street_starts_with_what_it_had(street: Path) -> None:
    changed(street, 'id = "street"', 'id = "street"\nlanes = 2')
    before = contents(street)
    fault = apply(street)
    assert "microgrid.0.lanes: unknown key" in fault
    assert {name for name, now in contents(street).items() if now != before[name]} == {APPLIED_FILE}
    assert applied(street) == (True, fault)
    said: list[str] = []
    prepare(street, lan=False, say=said.append)
    assert "lanes" in said[0]
    assert "runs on with what it had before" in said[0]


def test_settings_that_are_only_found_bad_when_they_are_written_are_put_back(street: Path) -> None:
    changed(street, "source = []", 'source = [{address = "127.0.0.1:1", user = "u", password = "none.password"}]')
    before = contents(street)
    assert "none.password" in apply(street)
    assert {name for name, now in contents(street).items() if now != before[name]} == {APPLIED_FILE}


def test_a_changed_zone_and_a_new_meter_are_taken_and_only_what_reads_them_at_its_start_changes(street: Path) -> None:
    apply(street)
    before, tokens = parts(street), (street / "utility/utility-tokens.json").read_bytes()
    changed(street, 'name = "My street"', 'name = "Elm Street"')
    assert apply(street) == ""
    assert parts(street) == before, "the brokers and the utility load a town's changes by themselves"
    changed(
        street,
        "source = []",
        'source = [{address = "127.0.0.1:1"}]\n\n[[microgrid.adapter.meter]]\nid = 7\npreset = "shelly-pm"\n'
        'source = "plug"\n\n[[meter]]\nmicrogrid = "street"\nid = 7\nadapter = true',
    )
    assert apply(street) == ""
    assert {name for name, digest in parts(street).items() if digest != before[name]} == {"street adapter"}
    assert (street / "utility/utility-tokens.json").read_bytes() == tokens


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ('id = "street"', 'id = "r001"', "is no street's, it has no microgrid `street` with an adapter"),
        ('utility = "127.0.0.1"', 'utility = "192.0.2.7"', "192.0.2.7 is no address of this machine"),
        ('address = "127.0.0.1"', 'address = "192.0.2.8"', "192.0.2.8 is no address of this machine"),
        ("[microgrid.adapter]\n", "[[meter]]\n", "line "),
    ],
)
def test_a_site_of_another_kind_is_refused(
    tmp_path: Path, before: str, after: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "site.toml").write_text(first_site(8080, lan=False))
    changed(site, before, after)
    monkeypatch.setattr(module, "_await_port", pytest.fail)
    with pytest.raises(ConfigError, match=says):
        prepare(site, lan=False, say=pytest.fail)
    assert not (site / "utility").exists()


def test_a_clock_before_the_program_a_folder_that_is_a_file_and_a_second_street_are_refused(
    street: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"the street's folder can't be written: .*; make room or give another"):
        prepare(tmp_path / "file", lan=False, say=pytest.fail)
    with only_one(street / "street", "another"):
        second = CliRunner().invoke(make_app("street"), ["street", "--site", str(street)])
    assert (second.exit_code, second.output.count("runs already; where its pages are: commonwatt")) == (2, 1)
    monkeypatch.setattr(module, "machine_s", lambda: MADE - 86_400)
    with pytest.raises(ConfigError, match=r"clock says 2025-12-31 .*, which is before this program was made; set it"):
        prepare(tmp_path / "new", lan=False, say=pytest.fail)
    assert not (tmp_path / "new").exists()


def test_the_link_of_a_folder_without_a_street_is_refused(tmp_path: Path) -> None:
    found = CliRunner().invoke(make_app("street"), ["street", "--link", "--site", str(tmp_path)])
    assert (found.exit_code, "no street is there" in found.output) == (2, True)


def test_the_service_is_started_by_root_where_the_package_brought_it(
    street: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def started(code: int) -> str:
        (street / "utility/first-login").write_text("http://0.0.0.0:8080/console/invitation/SECRET\n")
        ran = subprocess.CompletedProcess[str]([], code)
        with patch("commonwatt.street.cli.subprocess.run", lambda *_, **__: ran):
            done = CliRunner().invoke(make_app("street"), ["street", "--service"])
        return f"{done.exit_code} {done.output}"

    monkeypatch.setattr(cli, "UNIT_FOLDER", street)
    monkeypatch.setattr(Machine, "at", lambda _: Machine(root=tmp_path, runs=True))
    assert "2 systemd and the package commonwatt-utility bring the service" in started(0)
    unit = tmp_path / "usr/lib/systemd/system" / UNIT
    unit.parent.mkdir(parents=True)
    unit.touch()
    assert "1 error: the service does not start" in started(1)
    assert re.match(r"0 http://127.0.0.1:\d+/console/invitation/SECRET\n", started(0))
    monkeypatch.undo()
    assert str(UNIT_FOLDER) in (DEPLOY / "systemd" / UNIT).read_text()


class Parts:
    """A supervisor that starts nothing."""

    def __init__(self) -> None:
        self.running: dict[str, SupervisedPart] = {}
        self.ended: list[str] = []
        self.started: list[str] = []

    def start(self, parts: Iterable[SupervisedPart]) -> None:
        new = {part.name: part for part in parts}
        self.running |= new
        self.started = list(new)

    def end(self, names: Iterable[str]) -> None:
        self.ended = list(names)
        for name in self.ended:
            del self.running[name]

    def watch(self) -> None: ...

    def stop(self) -> list[str]:
        return []


def test_only_parts_whose_files_changed_start_again_and_those_that_are_gone_end(street: Path) -> None:
    apply(street)
    keeper, fake = Keeper(street, "http://127.0.0.1/"), Parts()
    keeper._supervisor = fake  # type: ignore[assignment] # one that starts nothing
    keeper._take()
    assert fake.started == list(parts(street))
    keeper._take()
    assert (fake.ended, fake.started) == ([], [])
    listed = json.loads((street / PARTS_FILE).read_text())
    listed[1]["digest"] = "another"
    listed.append({"part": listed[4]["part"] | {"name": "devices broker"}, "digest": "new"})
    del listed[4]
    (street / PARTS_FILE).write_text(json.dumps(listed))
    keeper._take()
    assert fake.ended == ["head-end broker", "street adapter"]
    assert fake.started == ["head-end broker", "devices broker"]
    assert fake.running["devices broker"].command[-1].endswith("adapter.toml")


def test_a_refused_site_file_is_said_once_and_so_is_the_end(
    street: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    apply(street)
    keeper, fake, turns = Keeper(street, ""), Parts(), iter([False] * 6 + [True])
    keeper._supervisor = fake  # type: ignore[assignment] # one that starts nothing
    monkeypatch.setattr(keeper, "_answers", lambda: False)
    monkeypatch.setattr(keeper, "_let_go_on", list)

    def start(_: SupervisedPart) -> SimpleNamespace:
        apply(street)
        return SimpleNamespace(poll=lambda: 0, returncode=0, terminate=list, wait=list)

    monkeypatch.setattr("commonwatt.street.keeper.start_part", start)
    changed(street, 'id = "street"', 'id = "street"\nlanes = 2')
    assert keeper.run(SimpleNamespace(wait=lambda _: next(turns))) == []  # type: ignore[arg-type] # an event
    fault, runs_on, end = capsys.readouterr().out.splitlines()
    assert "lanes: unknown key" in fault
    assert runs_on == "The street runs on with what it had before."
    assert end == "the street ends; the same command starts it again where it was"


def test_a_machine_without_room_ends_no_part(street: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apply(street)
    keeper, fake, turns = Keeper(street, ""), Parts(), iter([False, False, True])
    keeper._supervisor = fake  # type: ignore[assignment] # one that starts nothing
    monkeypatch.setattr(keeper, "_answers", lambda: False)
    monkeypatch.setattr(keeper, "_let_go_on", list)
    tried = list[SupervisedPart]()

    def start(part: SupervisedPart) -> None:
        tried.append(part)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("commonwatt.street.keeper.start_part", start)
    changed(street, 'name = "My street"', 'name = "Elm Street"')
    assert keeper.run(SimpleNamespace(wait=lambda _: next(turns))) == []  # type: ignore[arg-type] # an event
    assert [part.name for part in tried] == ["folder", "folder"], "it is tried again"
    assert (list(fake.running), fake.ended) == (list(parts(street)), [])


def test_pages_that_only_accept_connections_do_not_answer_yet(street: Path) -> None:
    """The utility listens before it has written the first link."""
    apply(street)
    keeper = Keeper(street, "")
    keeper._supervisor = Parts()  # type: ignore[assignment] # one that starts nothing
    keeper._take()
    host, port = module._utility(street)["http"].split(":")
    assert not keeper._answers()
    with socket.create_server((host, int(port))) as server:
        accepting = threading.Thread(target=lambda: server.accept()[0].close())
        accepting.start()
        assert not keeper._answers()
        accepting.join()
        answering = threading.Thread(target=_answer, args=[server])
        answering.start()
        assert keeper._answers()
        answering.join()


def _answer(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        connection.recv(100)
        connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n")


def test_the_first_link_is_in_no_log_of_the_system(street: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = Keeper(street, "http://192.168.1.7:8080/")
    assert keeper._words() == "your street: http://192.168.1.7:8080/"
    (street / "utility/first-login").write_text("http://0.0.0.0:8080/console/invitation/SECRET\n")
    assert keeper._words().endswith("\nhttp://192.168.1.7:8080/console/invitation/SECRET")
    monkeypatch.setenv("INVOCATION_ID", "1")
    assert "SECRET" not in keeper._words()
    assert f"commonwatt street --link --site {street}" in keeper._words()


def test_a_long_log_keeps_its_end(street: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("commonwatt.street.keeper._LOG_BYTES", 10)
    log = street / "logs/utility.log"
    log.write_text("a long line of before\n")
    Keeper(street, "")._trim_logs()
    assert (log.read_text(), log.with_suffix(".before").read_text()) == ("", "of before\n"[-10:])


def test_a_broker_of_our_own_keeps_its_port_and_logins_and_is_a_part(
    street: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for of in (devices_broker, module):
        monkeypatch.setattr(of, "found", lambda _: Path("/usr/sbin/mosquitto"))
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        host, chosen, user, password = own_broker(street, lan=False, port=port)
    assert (host, user, len(password)) == ("127.0.0.1", "devices", 19)
    assert chosen > port
    before = contents(street / "devices")
    assert own_broker(street, lan=False, port=port) == (host, chosen, user, password)
    assert contents(street / "devices") == before
    assert adapter_login(street)[1] not in before["passwords"].decode()
    assert before["passwords"].decode().count("$7$") == 2
    assert apply(street) == ""
    digest = parts(street)["devices broker"]
    assert own_broker(street, lan=True)[1:] == (chosen, user, password)
    assert f"listener {chosen} 0.0.0.0\n" in (street / "devices/mosquitto.conf").read_text()
    apply(street)
    assert parts(street)["devices broker"] != digest, "it reads that at its start"


def test_without_mosquitto_the_broker_of_our_own_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices_broker, "found", lambda _: None)
    with pytest.raises(ConfigError, match="Mosquitto, the broker for devices, is not installed; sudo apt install"):
        own_broker(tmp_path, lan=False)
    assert list(tmp_path.iterdir()) == []


PHRASE = "four words of a street"


@pytest.fixture
def saved(street: Path) -> Path:
    """A street's backup; a store has rows that are in its write-ahead log alone."""
    with closing(sqlite3.connect(street / "street/gateway.db")) as store:
        store.execute("PRAGMA journal_mode = WAL")
        store.execute("CREATE TABLE part (value)")
        store.executemany("INSERT INTO part VALUES (?)", [(random.Random(n).randbytes(9_000),) for n in range(300)])
        store.commit()
        (street / "devices").mkdir()
        (street / "devices/mosquitto.db").write_bytes(b"no SQLite")
        (street / "link.pem").symlink_to(street / "site.toml")
        set_passphrase(street, PHRASE)
        (street / "processes.json").write_text("{}")
        return back_up(street, "2026-11-30")


def test_a_street_comes_back_from_its_backup_with_every_committed_row(
    street: Path, saved: Path, tmp_path: Path
) -> None:
    """# req: T8"""
    assert saved.stat().st_mode & 0o777 == 0o600
    assert saved.stat().st_size > 2_500_000, "several chunks"
    again = tmp_path / "again"
    restore(again, saved, PHRASE)
    before, found = contents(street), contents(again)
    ours = ("parts.json", "applied.json", "processes.json", "backups/", "logs/")
    assert found.keys() == {n for n in before if not n.startswith(ours) and not n.endswith((".lock", "-wal", "-shm"))}
    assert all(found[name] == before[name] for name in found if not name.endswith(".db"))
    with closing(sqlite3.connect(again / "street/gateway.db")) as store:
        assert store.execute("SELECT count(*) FROM part").fetchone() == (300,)
    prepare(again, lan=False, say=pytest.fail)
    assert parts(again).keys() == parts(street).keys()


def test_a_backup_is_of_one_moment_in_all_stores(street: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that no store has acknowledged what another one does not have."""
    path = street / "street/gateway.db"
    with closing(sqlite3.connect(path)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("CREATE TABLE part (value)")
        with closing(snapshot(path)) as held:
            writer.execute("INSERT INTO part VALUES (1)")
            writer.commit()
            copy_of(held, street / "copy")
    with closing(sqlite3.connect(street / "copy")) as store:
        assert store.execute("SELECT count(*) FROM part").fetchone() == (0,)
    signals: list[tuple[int, int]] = []
    monkeypatch.setattr("commonwatt.street.backup.os.kill", lambda *words: signals.append(words))
    set_passphrase(street, PHRASE)
    (street / "processes.json").write_text('{"utility": 1, "street gateway": 2, "street broker": 3}')
    back_up(street, "2026-11-30")
    stop, go_on = signal.SIGSTOP, signal.SIGCONT
    assert signals == [(2, stop), (1, stop), (2, go_on), (1, go_on)]


def test_a_backup_that_is_ended_leaves_nothing_and_lets_the_parts_go_on(
    street: Path, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, signals = saved.with_name(".killed"), list[tuple[int, int]]()
    left.mkdir()
    (left / "packed").touch()
    monkeypatch.setattr("commonwatt.street.backup.os.umask", lambda _: 0)
    monkeypatch.setattr("commonwatt.street.backup.os.kill", lambda *words: signals.append(words))
    monkeypatch.setattr("commonwatt.street.backup.snapshot", lambda _: signal.raise_signal(signal.SIGTERM))
    monkeypatch.setattr(sys, "argv", ["", str(street)])
    (street / "processes.json").write_text('{"utility": 1}')
    with pytest.raises(SystemExit):
        backup_program()
    assert signals == [(1, signal.SIGSTOP), (1, signal.SIGCONT)]
    assert list(saved.parent.iterdir()) == [saved]


@pytest.mark.parametrize("at", [0, 30, 60, 1_200_000, -1])
def test_a_damaged_backup_and_another_passphrase_are_refused_and_nothing_is_made(
    saved: Path, tmp_path: Path, at: int
) -> None:
    content, again = bytearray(saved.read_bytes()), tmp_path / "again"
    content[at] ^= 1
    bad = tmp_path / "bad.cwb"
    bad.write_bytes(content)
    with pytest.raises(
        ConfigError, match=r"bad\.cwb: (.*damaged.*|this is no backup of a street); nothing was restored"
    ):
        restore(again, bad, PHRASE)
    bad.write_bytes(saved.read_bytes()[:at])
    with pytest.raises(ConfigError, match="nothing was restored"):
        restore(again, bad, PHRASE)
    with pytest.raises(ConfigError, match="the passphrase is another one, or the backup is damaged; nothing was"):
        restore(again, saved, PHRASE + "!")
    assert list(again.iterdir()) == []


def test_a_refused_restore_asks_for_no_passphrase_in_vain_and_leaves_no_folder(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, new = tmp_path / "bad.cwb", tmp_path / "new"
    bad.write_bytes(b"no backup")

    def said(file: Path, site: Path = new) -> str:
        done = CliRunner().invoke(
            make_app("street"), ["street", "--site", str(site), "--from", str(file)], input="no\n"
        )
        assert done.exit_code == 2
        assert "Errno" not in done.output
        return done.output

    assert "Passphrase" not in said(bad)
    assert "none.cwb: can't be read: No such file or directory; nothing was restored" in said(tmp_path / "none.cwb")
    assert "bad.cwb: File exists; give the street another folder: --site PATH" in said(saved, bad)
    assert "the passphrase is another one" in said(saved)
    assert not new.exists()
    monkeypatch.setattr("commonwatt.street.cli.lock_file", lambda path, **_: path.parent.mkdir(exist_ok=True))
    monkeypatch.setattr("commonwatt.street.cli.prepare", lambda *_, **__: sys.exit(3))
    done = CliRunner().invoke(
        make_app("street"), ["street", "--site", str(new), "--from", str(saved)], input=PHRASE + "\n"
    )
    assert "must not run any more: both would command the same batteries" in done.output
    assert (new / "site.toml").exists()


def test_a_backup_is_put_into_an_empty_folder_only_and_short_passphrases_are_refused(street: Path, saved: Path) -> None:
    before = contents(street)
    with pytest.raises(ConfigError, match=r"has files already, such as .*; a backup needs an empty folder"):
        restore(street, saved, PHRASE)
    with pytest.raises(ConfigError, match="at least 12 letters"):
        set_passphrase(street, "short")
    port = int(tomllib.loads((street / "site.toml").read_text())["utility"]["http"].rpartition(":")[2])
    again = street.with_name("again")
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(ConfigError, match=f":{port}, which is in use: end the street that runs there; nothing was"),
    ):
        restore(again, saved, PHRASE)
    assert list(again.iterdir()) == []
    assert contents(street) == before


def test_the_last_seven_backups_are_kept_and_each_night_has_one(
    street: Path, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for day in range(10, 19):
        saved.with_name(f"street-2026-11-{day}.cwb").touch()
    back_up(street, "2026-12-01")
    kept = sorted(path.name for path in saved.parent.glob("*"))
    assert kept == [*(f"street-2026-11-{day}.cwb" for day in (14, 15, 16, 17, 18, 30)), "street-2026-12-01.cwb"]
    keeper, now = Keeper(street, ""), {"%Y-%m-%d": "2026-12-02", "%H": "01"}
    monkeypatch.setattr("commonwatt.street.keeper.time.strftime", now.get)
    assert not keeper._backup_is_due(0)
    (street / "backup-now").touch()
    assert keeper._backup_is_due(1e12)
    (street / "backup-now").unlink()
    now["%H"] = "02"
    assert keeper._backup_is_due(0)
    assert not keeper._backup_is_due(1e12), "one that failed is tried again in an hour"
    now["%Y-%m-%d"] = "2026-12-01"
    assert not keeper._backup_is_due(0)
