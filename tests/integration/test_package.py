"""The Debian package of a controller, in a root folder: installed, over 0.3 with a backlog, back, removed, purged."""

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from commonwatt.audit.folder import audit_folder
from commonwatt.cli.status import ask
from commonwatt.identity.authority import Authority
from commonwatt.site.bundle import pack, write_bundle
from deploy.debian.package import CONTROLLER, UTILITY, finish_tree, version
from deploy.debian.wheels import PROJECT, SITE_PACKAGES, copy_own
from harness.docs.marked import DOCS
from harness.network.waiting import eventually, free_port
from harness.real import forks
from harness.real.deploy import SYSTEMD, office, started, steps
from harness.real.kept import METERS, TOWN, parts_of
from harness.real.packages import EPOCH, RELEASE_0_3, Root, make_package, make_tree, need_debian, old_release
from harness.real.site import Site

PROGRAM = [sys.executable, "-m", "commonwatt"]

HOURS = 12

OLDER = "0.1.9"  # the version of a package that is older than the project's

MAX_INSTALLED = 150e6

ETC = "/etc/systemd/system"
CURRENT = "/opt/commonwatt/current"
ENABLED = "multi-user.target.wants/commonwatt-gateway@r001.service"


@dataclass(frozen=True, kw_only=True)
class Small:
    """Packages without libraries, for tests that start nothing."""

    ours: Path  # the project's
    older: Path  # the same content with an older version


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    need_debian()
    folder = tmp_path_factory.mktemp("small")
    tree = small_tree(folder)
    ours, older = (make_package(CONTROLLER, tree, folder, number) for number in (version(), OLDER))
    return Small(ours=ours, older=older)


def small_tree(folder: Path) -> Path:
    """Make a tree with our own packages alone."""
    copy_own(folder / "tree" / SITE_PACKAGES)
    finish_tree(CONTROLLER, folder / "tree", EPOCH)
    return folder / "tree"


@dataclass(frozen=True, kw_only=True)
class Upgraded:
    """A controller with 0.3 on which the package was installed."""

    root: Root  # its root folder
    said: str  # what dpkg and its scripts said


@pytest.fixture(scope="module")
def upgraded(tmp_path_factory: pytest.TempPathFactory) -> Upgraded:
    """Install as a page without packages has it, then the package."""
    need_debian()
    folder = tmp_path_factory.mktemp("upgraded")
    root = Root(folder / "root")
    etc, current = root.path(ETC), root.path(CURRENT)
    shutil.copytree(SYSTEMD, etc)
    for path in (etc / "multi-user.target.wants", current.parent / "0.3.0"):
        path.mkdir(parents=True)
    (etc / ENABLED).symlink_to(f"{ETC}/commonwatt-gateway@.service")
    with (etc / "commonwatt-broker@.service").open("a") as edited:
        edited.write("# a technician's line\n")
    current.symlink_to("0.3.0")
    make_tree(CONTROLLER, folder / "tree")
    said = installed(root, make_package(CONTROLLER, folder / "tree", folder, version()))
    return Upgraded(root=root, said=said)


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root(tmp_path / "root")


def installed(root: Root, package: Path) -> str:
    """Install a package; return what dpkg and its scripts say."""
    done = root.dpkg("--install", package)
    assert done.returncode == 0, done.stderr
    return done.stdout


def shown(root: Root) -> str:
    """Return the version and the state of the package that is installed."""
    command = ["dpkg-query", f"--admindir={root.folder}/var/lib/dpkg", "-W", "-f", "${Version} ${db:Status-Status}"]
    return subprocess.run([*command, CONTROLLER.name], capture_output=True, text=True, check=True).stdout


def backlog(site: Site) -> int:
    """Return the parts that wait in the gateway; -1 while it does not answer."""
    return int((site.status("r001 gateway") or {"backlog": {"parts": -1}})["backlog"]["parts"])


def test_the_installed_package_is_small_and_whole(upgraded: Upgraded) -> None:
    size = sum(path.lstat().st_size for path in upgraded.root.path("/usr").rglob("*"))
    print(f"installed: {size / 1e6:.0f} MB")
    assert size < MAX_INSTALLED
    assert upgraded.root.dpkg("--verify").stdout == ""


def test_units_of_an_installation_by_pip_make_room_for_those_of_the_package(upgraded: Upgraded) -> None:
    etc, current = upgraded.root.path(ETC), upgraded.root.path(CURRENT)
    assert "before, they ran /opt/commonwatt/0.3.0, which stays" in upgraded.said
    assert "commonwatt-broker@.service differs from the package's" in upgraded.said
    assert {path.name for path in etc.iterdir()} == {"commonwatt-broker@.service.before", "multi-user.target.wants"}
    assert (etc / ENABLED).readlink() == Path("/usr/lib/systemd/system/commonwatt-gateway@.service")
    assert (current / "bin" / "commonwatt").is_file()
    assert (current.parent / "0.3.0").is_dir()


def test_a_technician_unpacks_a_bundle_and_both_services_start(upgraded: Upgraded, tmp_path: Path) -> None:
    root = upgraded.root
    site = office(tmp_path, PROGRAM)
    mqtt, *http = (f"127.0.0.1:{free_port()}" for _ in range(3))
    with (site / "site.toml").open("a") as file:
        file.write(f'broker = {{listen = "{mqtt}", http = "{http[0]}"}}\n')
        file.write(f'gateway = {{head_end = "127.0.0.1:{free_port()}", http = "{http[1]}"}}\n')
    forks.run([*PROGRAM, "site", "init"], cwd=tmp_path, check=True)
    bundle = pack(site, "r001", EPOCH)
    write_bundle(bundle, tmp_path / "r001.bundle", Authority.load(site))
    words = ["site", "unpack", str(tmp_path / "r001.bundle"), "--root", str(root.folder)]
    words += ["--authority", bundle.manifest.authority]
    said = subprocess.run([*root.program, *words], check=True, capture_output=True, text=True).stdout
    assert "systemctl restart commonwatt-broker@r001.service commonwatt-gateway@r001.service" in said
    assert not list(root.path(ETC).glob("*.service")), "the package has them"

    state = root.path("/var/lib/commonwatt")
    for path in state.rglob("*"):
        os.chown(path, os.geteuid(), os.getegid())
    program = [str(root.path(f"{CURRENT}/bin/python3")), *root.program[1:]]
    with ExitStack() as stack:
        for unit in ("commonwatt-broker@.service", "commonwatt-gateway@.service"):
            ear = stack.enter_context(started(unit, program, state))
            assert b"READY=1" in ear.recv(500), unit
        eventually(lambda: ask(state / "r001" / "gateway.toml")["connected"]["meters"])
    # The store of a newer version, in case that its file is not where the package looks: the program refuses it too.
    store = state / "r001" / "gateway.db"
    with closing(sqlite3.connect(store)) as connection, connection:
        connection.executescript("UPDATE setting SET value = '99' WHERE key = 'schema'; PRAGMA user_version = 99;")
    connection.close()
    before = store.read_bytes()
    run = [*root.program, "gateway", "run", "--config", str(state / "r001" / "gateway.toml")]
    refused = subprocess.run(run, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 1
    assert "schema 99, but this release knows 4; install the newer release" in refused.stderr
    assert store.read_bytes() == before
    assert root.dpkg("--verify").stdout == "", "no file of the package was changed or written"


def test_upgraded_from_0_3_with_a_backlog_of_twelve_hours_no_reading_is_lost(
    upgraded: Upgraded, tmp_path: Path
) -> None:
    old = old_release(RELEASE_0_3, tmp_path / "0.3.0")
    with Site(tmp_path / "site", TOWN) as site:
        store = site.folder / "r001" / "gateway.db"
        # Only with the second one, the folder in which this test runs does not come first.
        environment = {"PYTHONPATH": str(old), "PYTHONSAFEPATH": "1"}
        as_0_3 = partial(subprocess.run, check=True, capture_output=True, text=True, env=os.environ | environment)
        where = as_0_3(
            [sys.executable, "-c", "import commonwatt, gateway.cli as c; print(commonwatt.__file__, c.__file__)"]
        )
        assert where.stdout.count(str(old)) == 2
        # 0.3 makes its own, without the keys that it does not know.
        (site.folder / "r001" / "registry.json").unlink()
        devices = site.folder / "head-end" / "devices.json"
        present = devices.read_text()
        devices.write_text(json.dumps({name: one for name, one in json.loads(present).items() if name != "plant"}))
        register = ["utility", "register", "--town", str(site.town_file), "--out", str(site.folder)]
        as_0_3([*PROGRAM, *register, "--database", f"sqlite:///{tmp_path}/registered.db"])
        devices.write_text(present)
        as_0_3([sys.executable, str(PROJECT / "harness" / "real" / "kept.py"), str(store), str(HOURS * 60)])
        site.environments = dict.fromkeys(("r001 broker", "r001 gateway"), environment)
        site.start("r001 broker", "r001 gateway", "r001 meters")
        eventually(lambda: backlog(site) > len(METERS) * HOURS * 60)
        site.stop("r001 broker", "r001 gateway")

        # The package's program goes on with the same files.
        site.environments = {}
        for name in ("r001 broker", "r001 gateway"):
            site.commands[name] = [*upgraded.root.program, *site.layout.part(name).command[3:]]
            site.environments[name] = {}
        site.start("head-end", "utility", "r001 broker", "r001 gateway")
        site.stop("r001 meters")
        eventually(lambda: backlog(site) == 0)
        blocks, kept = site.dump(), parts_of(HOURS * 60)
        for meter in METERS:
            assert blocks.values[blocks.meter == meter].sum() == kept.values[kept.meter == meter].sum()
        audit = audit_folder(site.folder)
        assert audit.good, audit


def test_an_older_package_is_refused_where_the_store_is_newer_and_nothing_changes(small: Small, root: Root) -> None:
    installed(root, small.ours)
    store = root.path("/var/lib/commonwatt/r001/gateway.db")
    store.parent.mkdir(parents=True)
    with closing(sqlite3.connect(store)) as connection, connection:
        connection.executescript("CREATE TABLE part (x); PRAGMA user_version = 99;")
    before = hashlib.sha256(store.read_bytes()).digest()
    done = root.dpkg("--install", small.older)
    assert done.returncode != 0
    assert "gateway.db: it has schema 99, this version knows 4" in done.stderr
    assert "Nothing was changed: keep the installed version, or install a newer one" in done.stderr
    assert shown(root) == f"{version()} installed"
    assert hashlib.sha256(store.read_bytes()).digest() == before
    assert root.path("/opt/commonwatt/current/bin/commonwatt").is_file()
    with closing(sqlite3.connect(store)) as connection, connection:
        connection.execute("PRAGMA user_version = 1")
    # Where the store is not newer, the way back is open; and then forward again.
    installed(root, small.older)
    assert shown(root) == f"{OLDER} installed"
    installed(root, small.ours)
    assert root.dpkg("--verify").stdout == ""


def test_removed_and_purged_the_data_stays_and_the_last_word_says_so(small: Small, root: Root) -> None:
    installed(root, small.ours)
    store = root.path("/var/lib/commonwatt/r001/gateway.db")
    store.parent.mkdir(parents=True)
    store.touch()
    wants = root.path("/etc/systemd/system/multi-user.target.wants")
    wants.mkdir(parents=True)
    (wants / "commonwatt-gateway@r001.service").symlink_to("/usr/lib/systemd/system/commonwatt-gateway@.service")
    assert root.dpkg("--remove", CONTROLLER.name).returncode == 0
    assert (wants / "commonwatt-gateway@r001.service").is_symlink(), "installed again, it starts again"
    assert not root.path("/usr/lib").exists()
    assert not root.path("/opt").exists() or not list(root.path("/opt").iterdir())
    done = root.dpkg("--purge", CONTROLLER.name)
    assert done.returncode == 0, done.stderr
    assert "kept /var/lib/commonwatt" in done.stdout
    assert "sudo rm -r /var/lib/commonwatt" in done.stdout
    assert store.exists()
    assert not list(wants.iterdir())


def test_purged_without_data_nothing_is_left_but_the_user(small: Small, root: Root) -> None:
    installed(root, small.ours)
    done = root.dpkg("--purge", CONTROLLER.name)
    assert done.returncode == 0, done.stderr
    assert "kept" not in done.stdout
    left = {path.relative_to(root.folder).parts[0] for path in root.folder.rglob("*") if path.is_file()}
    assert left <= {"etc", "var"}
    assert "commonwatt:" in root.path("/etc/passwd").read_text()


def test_the_same_input_gives_the_same_bytes(small: Small, tmp_path: Path) -> None:
    again = make_package(CONTROLLER, small_tree(tmp_path), tmp_path, version())
    assert again.read_bytes() == small.ours.read_bytes()
    listing = subprocess.run(["dpkg-deb", "--contents", again], check=True, capture_output=True, text=True).stdout
    assert {line.split()[1] for line in listing.splitlines()} == {"root/root"}


def test_only_a_controllers_package_turns_tcp_timestamps_off(tmp_path: Path) -> None:  # req: C9
    for package, has_it in ((CONTROLLER, True), (UTILITY, False)):
        make_tree(package, tmp_path / package.name)
        setting = tmp_path / package.name / "usr/lib/sysctl.d/60-commonwatt.conf"
        assert setting.exists() is has_it


def test_the_utilitys_package_has_the_files_that_the_guide_to_backups_installs(tmp_path: Path) -> None:
    make_tree(UTILITY, tmp_path / "root")
    lines = steps("Set up pgBackRest", DOCS / "stores.md")
    named = [word for line in lines for word in line.split() if word.startswith("deploy/")]
    assert len(named) == 4
    assert all(list((tmp_path / "root/usr/share/commonwatt").glob(word)) for word in named)
