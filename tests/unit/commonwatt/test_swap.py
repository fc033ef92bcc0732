"""``commonwatt swap controller``, by the lines of its guide; machines are folders."""

import shlex
import shutil
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from unittest.mock import patch

import pytest
from typer.testing import CliRunner

from adapters.store import CHANNELS
from commonwatt.cli.main import make_app
from commonwatt.device.released import check_in_use
from commonwatt.device.store import open_store
from commonwatt.identity.authority import Authority
from commonwatt.identity.certificates import Kind, revoked_serials
from commonwatt.identity.devices import digest
from commonwatt.network.tls import server_context
from commonwatt.site.bundle import read_bundle
from commonwatt.site.exchange import release_commands
from commonwatt.site.machine import Machine
from commonwatt.site.unpack import prepare
from gateway.store.store import Store
from harness.docs.marked import DOCS
from harness.real import forks
from harness.real.deploy import STATE, machine_root, steps, words_of
from harness.real.enrolled import authority, certificate
from harness.worlds.gateway import START, World, readings

GUIDE = DOCS / "guides" / "bundles.md"
PROGRAM = [sys.executable, "-m", "commonwatt"]


def typed(folder: Path, line: str, *more: str, answer: str = "", exit_code: int = 0) -> str:
    """Run a line of the guide in a folder; return what it prints."""
    words = words_of(line)
    if words is None:
        return ""
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        done = CliRunner().invoke(make_app(words[0]), [*words, *more], input=answer)
    assert done.exit_code == exit_code, done.output
    return done.output


def printed(said: str, folder: Path) -> None:
    """Run the commands of ours that a command printed, where systemd does not run: paths of the machine in its root."""
    for line in said.splitlines():
        words = shlex.split(line) if line.startswith("  ") else []
        words = [f"root{word}" if word.startswith(STATE) else word for word in words]
        if "gateway" in words:
            done = forks.run([*PROGRAM, *words[words.index("gateway") :]], cwd=folder, timeout=60)
            assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


@contextmanager
def answering(listener: socket.socket, certificate: Path) -> Iterator[None]:
    """Answer one connection with a broker's certificate."""

    def answer() -> None:
        plain, _ = listener.accept()
        with suppress(OSError), server_context(certificate).wrap_socket(plain, server_side=True) as secure:
            secure.recv(1)

    thread = threading.Thread(target=answer)
    thread.start()
    yield
    thread.join()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, listener: socket.socket) -> Path:
    """Return the office's folder, with the old controller's bundle."""
    forks.run([sys.executable, "-c", "pass"], check=True)
    office = tmp_path_factory.mktemp("office")
    with patch("commonwatt.site.office.subprocess.run", forks.run):
        microgrid = ("--microgrid", "r001,residential,houses=1,address=127.0.0.1")
        typed(office, "commonwatt site init --yes --utility utility.example", *microgrid)
        with (office / "site" / "site.toml").open("a") as file:
            file.write(f'broker = {{listen = "127.0.0.1:{listener.getsockname()[1]}"}}\n')
            file.write('[[microgrid.adapter.meter]]\nid = 77001\npreset = "tasmota"\nsource = "kitchen"\n')
            file.write('[[meter]]\nmicrogrid = "r001"\nid = 77001\nadapter = true\n')
        typed(office, "commonwatt site init")
    typed(office, "commonwatt site pack r001")
    return office


@pytest.fixture
def office(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "office")


def machine(folder: Path) -> Path:
    machine_root(folder / "root")
    return folder


def with_authority(office: Path) -> tuple[str, str]:
    return "--authority", digest((office / "site/authority/ca.pem").read_bytes())


def store_of(place: Path) -> Path:
    return place / "root" / STATE.lstrip("/") / "r001" / "gateway.db"


def test_a_controller_is_exchanged_by_the_lines_of_the_guide(
    office: Path, tmp_path: Path, listener: socket.socket
) -> None:
    broker = office / "site/r001/broker.pem"
    shutil.copy(broker, tmp_path / "old.pem")
    old, new = machine(tmp_path / "old"), machine(tmp_path / "new")
    shutil.copy(office / "r001.bundle", old)
    typed(old, "sudo commonwatt site unpack r001.bundle", "--root", "root", *with_authority(office))
    world = World(store_of(old))
    assert world.put(1, 1, readings(1, 1, 20, start=START)).accepted
    world.store.close()
    open_store(store_of(old).with_name("adapter.db"), CHANNELS).close()
    before = {entry.file: entry.serial for entry in Authority.load(office / "site").current()}

    begin, _ = steps("1. Begin", GUIDE)
    said = typed(office, begin)
    for text in ("swap controller release", "unpack r001.bundle --handover r001.handover", "finish r001"):
        assert text in said
    fresh = {entry.file: entry.serial for entry in Authority.load(office / "site").current()}
    assert {file for file, serial in fresh.items() if before[file] != serial} == {"r001/broker.pem", "r001/gateway.pem"}
    typed(office, begin)
    assert fresh == {entry.file: entry.serial for entry in Authority.load(office / "site").current()}

    release, _ = steps("2. Release", GUIDE)
    printed(typed(old, release, "--root", "root"), old)
    for file in (office / "r001.bundle", old / "r001.handover"):
        shutil.copy(file, new)
    unpack = steps("3. Install", GUIDE)[-1].replace("FINGERPRINT", with_authority(office)[1])
    printed(typed(new, unpack, "--root", "root"), new)
    store = Store.open(store_of(new), read_only=True)
    assert len(list(store.all_parts(unsent_only=True))) == 1
    store.close()
    with closing(open_store(store_of(new).with_name("adapter.db"), CHANNELS)) as theirs:
        check_in_use(Path("adapter.db"), theirs.connection)

    finish, pack = steps("4. Finish", GUIDE)
    with answering(listener, tmp_path / "old.pem"):
        assert "answers another certificate than the new controller's" in typed(
            office, finish, answer="y\n", exit_code=2
        )
    with answering(listener, broker):
        assert "Aborted" in typed(office, finish, answer="n\n", exit_code=1)
    with answering(listener, broker):
        assert "2 certificates of the old controller revoked" in typed(office, finish, answer="y\n")
    typed(office, pack)
    site = office / "site"
    revoked = revoked_serials((site / "head-end" / "revoked.pem").read_bytes(), (site / "r001" / "ca.pem").read_bytes())
    assert revoked == {before["r001/broker.pem"], before["r001/gateway.pem"]}
    assert "no exchange of r001 was begun" in typed(office, finish, answer="y\n", exit_code=2)


def test_an_exchange_is_finished_unseen_only_if_a_person_says_so(
    office: Path, tmp_path: Path, listener: socket.socket
) -> None:
    typed(office, "commonwatt swap controller begin r001")
    finish, _ = steps("4. Finish", GUIDE)
    other = certificate(authority(tmp_path / "other"), Kind.BROKER, "r001")
    with answering(listener, other):
        said = typed(office, finish, answer="y\n", exit_code=2)
    assert "no controller answers at 127.0.0.1" in said
    assert "repeat this command with --yes" in said
    assert not Authority.load(office / "site").issued[0].revoked
    assert "2 certificates of the old controller revoked" in typed(office, finish, "--yes")


def test_an_exchange_of_a_microgrid_that_is_not_there_is_refused(office: Path) -> None:
    assert "has no microgrid r009; there are r001" in typed(
        office, "commonwatt swap controller begin r009", exit_code=2
    )


def test_a_machine_without_a_controller_has_nothing_to_release(tmp_path: Path) -> None:
    place = machine(tmp_path)
    said = typed(place, "commonwatt swap controller release", "--root", "root", exit_code=2)
    assert "no controller was unpacked there" in said


def test_a_handover_that_is_missing_or_for_the_utility_is_refused(office: Path, tmp_path: Path) -> None:
    place = machine(tmp_path / "new")
    line = "commonwatt site unpack r001.bundle --handover r001.handover"
    shutil.copy(office / "r001.bundle", place)
    assert "r001.handover: no such file" in typed(place, line, "--root", "root", exit_code=2)
    assert [path.name for path in (place / "root").iterdir()] == ["etc"]
    typed(office, "commonwatt site pack utility")
    (office / "x").touch()
    (office / "root").mkdir()
    line = "commonwatt site unpack utility.bundle --handover x"
    assert "only a controller takes a handover" in typed(office, line, "--root", "root", exit_code=2)


@pytest.mark.parametrize("has_adapter", [True, False])
def test_on_the_old_controller_the_services_stop_before_the_store_is_released(
    monkeypatch: pytest.MonkeyPatch, *, has_adapter: bool
) -> None:
    monkeypatch.setattr(Path, "exists", lambda _: has_adapter)
    commands = [shlex.join(c) for c in release_commands(Machine(root=Path("/"), runs=True), "r001", mosquitto=False)]
    monkeypatch.undo()
    adapter, file = "commonwatt-adapter@r001.service ", "--adapter /var/lib/commonwatt/r001/adapter.toml "
    first, own = (adapter, file) if has_adapter else ("", "")
    assert commands[0] == (
        f"systemctl disable --now {first}commonwatt-gateway@r001.service commonwatt-broker@r001.service"
    )
    assert f"gateway release --config /var/lib/commonwatt/r001/gateway.toml {own}--out" in commands[1]
    assert commands[2].endswith("/var/lib/commonwatt/r001/r001.handover r001.handover")


def test_the_new_controller_takes_the_store_over_while_gateway_and_adapter_are_stopped(
    office: Path, tmp_path: Path
) -> None:
    handover = tmp_path / "r001.handover"
    handover.touch()
    machine(tmp_path)
    bundle = read_bundle(office / "r001.bundle")
    ready = prepare(bundle, Machine(root=tmp_path / "root", runs=False), "0.4.0", bundle.manifest.made,
                    authority=bundle.manifest.authority, handover=handover)  # fmt: skip
    commands = [shlex.join(command) for command in ready.install(lambda _: None)]
    units = "commonwatt-adapter@r001.service commonwatt-gateway@r001.service"
    files = f"--config {STATE}/r001/gateway.toml --adapter {STATE}/r001/adapter.toml"
    assert commands[1] == f"systemctl stop {units}"
    assert commands[2].endswith(f"gateway take-over {STATE}/r001/r001.handover {files}")
    assert commands[-1].startswith("systemctl restart commonwatt-broker@r001.service commonwatt-gateway@r001.service ")
