"""Packages made of this environment's own installed files, without the network, and a root folder for dpkg."""

import shutil
import subprocess
import sys
import sysconfig
from importlib.metadata import distribution
from pathlib import Path

import pytest

from deploy.debian.package import Package, Release, build, finish_tree
from deploy.debian.wheels import SITE_PACKAGES, copy_own
from harness.real.extras import brought_by
from harness.real.parts import need_root, real_part

EPOCH = 1_700_000_000  # the time of all files, in the past: dpkg-deb only lowers later times


def make_tree(package: Package, root: Path) -> None:
    """Make a package's tree of the installed distributions that its extras need."""
    packages = root / SITE_PACKAGES
    for name in sorted(brought_by(*package.extras.split(",")) - {"commonwatt"}):
        installed = distribution(name)
        for file in installed.files or ():
            if ".." not in file.parts and "__pycache__" not in file.parts:
                (packages / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(str(installed.locate_file(file)), packages / file)
    copy_own(packages)
    (info,) = Path(sysconfig.get_path("purelib")).glob("commonwatt-*.dist-info")
    shutil.copytree(info, packages / info.name)
    finish_tree(package, root, EPOCH)


def make_package(package: Package, tree: Path, folder: Path, version: str) -> Path:
    """Make a package of a finished tree, which is not changed; it is not compressed."""
    architecture = subprocess.run(["dpkg", "--print-architecture"], check=True, capture_output=True, text=True)
    release = Release(version=version, architecture=architecture.stdout.strip(), epoch=EPOCH, compression=("-Znone",))
    root = folder / f"tree-{version}"
    # Hard links: of a package only the control files differ.
    shutil.copytree(tree, root, symlinks=True, copy_function=_link)
    return build(package, release, root, folder)


def _link(source: str, target: str) -> None:
    path = Path(source)
    Path(target).symlink_to(path.readlink()) if path.is_symlink() else Path(target).hardlink_to(path)


def need_debian() -> None:
    """Skip the test, and in CI fail it, on a machine that can't install the packages in a root folder."""
    for program in ("dpkg-deb", "systemd-sysusers", "/usr/bin/python3"):
        real_part(program)
    need_root("dpkg installs with it")
    shows = ["/usr/bin/python3", "-c", "import sys; print(*sys.version_info[:2])"]
    if tuple(map(int, subprocess.check_output(shows).split())) != sys.version_info[:2]:
        pytest.skip("the tests' Python is not this machine's, for which the package would need other libraries")


def bare_root(suite: str, folder: Path, *more: str) -> None:
    """Make a root folder of a Debian release with Python, further packages, and nothing else that ours need."""
    wanted = f"--include={','.join(('python3', *more))}"
    command = [str(real_part("mmdebstrap")), "--quiet", "--variant=minbase", wanted, suite, str(folder)]
    made = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert made.returncode == 0, made.stderr[-2000:]
    shutil.copy("/etc/resolv.conf", folder / "etc/resolv.conf")


def inside(root: Path, *shared: Path) -> list[str]:
    """Return the words before a command that run it in a root folder, with some folders of this machine."""
    mounts = "".join(f"mkdir -p {root}{each} && mount --bind {each} {root}{each} && " for each in ("/proc", *shared))
    return ["unshare", "--mount", "sh", "-c", f'{mounts}exec chroot {root} "$@"', "inside"]


class Root:
    """A root folder in which dpkg installs, without the packages of the system."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("etc", "var/lib/dpkg/info", "var/lib/dpkg/updates"):
            (folder / name).mkdir(parents=True)
        (folder / "var/lib/dpkg/status").touch()

    @property
    def program(self) -> list[str]:
        """The command that runs the installed program."""
        return [str(self.path("/usr/lib/commonwatt/bin/python3")), str(self.path("/usr/lib/commonwatt/bin/commonwatt"))]

    def path(self, name: str) -> Path:
        """Return the place of an absolute path."""
        return self.folder / name.lstrip("/")

    def dpkg(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """Run dpkg on the folder."""
        options = [
            "--log=/dev/null",
            "--force-script-chrootless",
            "--force-depends",
            "--force-unsafe-io",
            "--force-architecture",
        ]
        command = ["dpkg", f"--root={self.folder}", *options, *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
