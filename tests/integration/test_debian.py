"""The packages of *Operations*, of the pinned wheels, in a bare root of Debian 13: installed, and run there.

``make soak``: those for both processors, in Debian 12 too, and the size of a compressed one.
"""

import os
import platform
import subprocess
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import pytest

from deploy.debian.__main__ import make_root
from deploy.debian.package import CONTROLLER, UTILITY, Release, build, version
from deploy.debian.wheels import MACHINES, PYTHONS, SITE_PACKAGES, build_own, make_pip
from harness.network.waiting import eventually
from harness.real.own_street import OwnStreet
from harness.real.packages import EPOCH, Root, bare_root, inside
from harness.real.parts import need_root, real_part
from harness.real.site import Site

pytestmark = pytest.mark.real

ALL = os.environ.get("PACKAGES") == "all"
# The packages of this machine's processor run here; those of another one are only unpacked.
ARCHITECTURES = [name for name, machine in MACHINES.items() if ALL or machine == platform.machine()]
# All other tests run on Python 3.11, which Debian 12 has.
RELEASES = ("bookworm", "trixie") if ALL else ("trixie",)
MAX_CONTROLLER = 26e6  # bytes of a package to carry to a controller
OURS = {"adapters", "broker", "commonwatt", "deploy", "gateway"}
TOWN = '[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 1\npush_share = 1.0\n'
RUNS = {CONTROLLER.name: ("r001 broker", "r001 gateway"), UTILITY.name: ("head-end", "utility", "r001 meters")}

Packages = dict[tuple[str, str], Path]


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Packages:
    """Make the packages; one of controllers is compressed, since only its size matters."""
    need_root("dpkg installs with it")
    real_part("dpkg-deb")
    folder, made = tmp_path_factory.mktemp("packages"), {}
    pip = make_pip(folder / "pip")
    own = build_own(pip, folder)
    for package in (CONTROLLER, UTILITY):
        for architecture in ARCHITECTURES:
            work = folder / f"{package.name}-{architecture}"
            make_root(package, pip, own, architecture, work, EPOCH)
            is_weighed = ALL and package is CONTROLLER and architecture == "amd64"
            compression = ("-Zxz",) if is_weighed else ("-Znone",)
            release = Release(version=version(), architecture=architecture, epoch=EPOCH, compression=compression)
            made[package.name, architecture] = build(package, release, work / "root", folder)
    return made


@pytest.mark.parametrize("package", [CONTROLLER, UTILITY], ids=lambda package: package.name)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_each_package_installs_into_a_bare_root(
    packages: Packages, tmp_path: Path, package: object, architecture: str
) -> None:
    assert package in (CONTROLLER, UTILITY)
    name = CONTROLLER.name if package is CONTROLLER else UTILITY.name
    root = Root(tmp_path / "root")
    done = root.dpkg("--install", packages[name, architecture])
    assert done.returncode == 0, done.stderr
    assert root.dpkg("--verify").stdout == ""
    installed = root.folder / SITE_PACKAGES
    libraries = [path.name for path in installed.rglob("*.so")]
    for python in PYTHONS:
        wanted = f"cpython-{python.replace('.', '')}-{MACHINES[architecture]}"
        assert [each for each in libraries if wanted in each], wanted
    folders = {path.name for path in installed.iterdir() if path.is_dir()}
    ours = folders & {*OURS, "meter_sim", "scenarios", "utility"}
    assert ours == (OURS if package is CONTROLLER else {*OURS, "meter_sim", "scenarios", "utility"})
    assert (installed / "commonwatt" / "demo").exists() is (package is UTILITY)


if ALL:  # Compressing takes a minute of a core.

    def test_a_controllers_package_is_small(packages: Packages) -> None:
        assert packages[CONTROLLER.name, "amd64"].stat().st_size <= MAX_CONTROLLER


@pytest.fixture(scope="module", params=RELEASES)
def roots(
    request: pytest.FixtureRequest, packages: Packages, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Install each package of this machine's processor by apt in a bare root of a release."""
    kind = subprocess.run(["dpkg", "--print-architecture"], check=True, capture_output=True, text=True).stdout.strip()
    folder = tmp_path_factory.mktemp(request.param)
    bare_root(request.param, folder / "bare")
    made = {}
    for name in RUNS:
        root = made[name] = folder / name
        subprocess.run(["cp", "-a", folder / "bare", root], check=True)
        package = packages[name, kind]
        words = ["sh", "-c", f"apt-get update -qq && apt-get install -y -qq --no-install-recommends {package}"]
        done = subprocess.run([*inside(root, package.parent), *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{done.stdout[-2000:]}{done.stderr[-2000:]}"
    return made


def test_a_reading_comes_to_the_utility_from_the_installed_packages(roots: dict[str, Path], tmp_path: Path) -> None:
    with ExitStack() as stack:
        site = stack.enter_context(Site(tmp_path / "site", TOWN))
        for name, parts in RUNS.items():
            for part in parts:
                # Python's path would lead to this project's folder.
                program = [*inside(roots[name], tmp_path), "env", "-C", str(tmp_path), "commonwatt"]
                site.commands[part] = [*program, *site.layout.part(part).command[3:]]
                site.environments[part] = {"PYTHONSAFEPATH": "1", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        site.start("head-end", "utility", "r001 broker", "r001 gateway", "r001 meters")
        eventually(lambda: len(site.dump().meter) > 0)


def test_one_command_after_the_package_opens_ones_own_street(roots: dict[str, Path], tmp_path: Path) -> None:
    """# req: K5, K2"""
    program = [*inside(roots[UTILITY.name], tmp_path), "env", "-C", str(tmp_path), "PYTHONSAFEPATH=1"]
    street = OwnStreet(tmp_path / "site", [*program, "commonwatt", "street", "--site"])
    try:
        with urllib.request.urlopen(street.start()) as page:
            assert page.status == 200
        eventually(street.is_well)
    finally:
        street.stop()


def test_a_command_that_a_controller_lacks_names_the_package_that_has_it(roots: dict[str, Path]) -> None:
    command = [*inside(roots[CONTROLLER.name]), "commonwatt"]
    for words in (["utility", "run"], ["demo"], ["street"], ["meters", "run"]):
        done = subprocess.run([*command, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "commonwatt-utility" in done.stderr
        assert "Traceback" not in done.stderr
    assert subprocess.run([*command, "--help"], capture_output=True, check=False).returncode == 0
