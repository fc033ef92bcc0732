"""Packages: what an extra needs, an earlier release, programs of others, and Debian packages of our files."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from importlib.metadata import distribution, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy.debian.package import Package, Release, build, finish_tree
from deploy.debian.wheels import PROJECT, SITE_PACKAGES, copy_own
from harness.docs.marked import DOCS
from harness.real.parts import miss, need_root, real_part


def brought_by(*extras: str) -> set[str]:
    """Return the distributions that ``pip install commonwatt[extras]`` installs."""
    found, waiting = set[str](), [("commonwatt", frozenset(extras))]
    while waiting:
        name, wanted = waiting.pop()
        found.add(name)
        for text in requires(name) or ():
            one = Requirement(text)
            if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in (wanted or {""})):
                next_name = canonicalize_name(one.name)
                if next_name not in found or one.extras:
                    waiting.append((next_name, frozenset(one.extras)))
                    found.add(next_name)
    return found


RELEASE_0_3 = "fdad556c"  # the commit of release 0.3 (CHANGELOG.md)
HISTORY = "the repository's history: git fetch --unshallow"


def has_history(commit: str = RELEASE_0_3) -> bool:
    """Return whether the repository has a commit; a shallow clone lacks it."""
    command = ["git", "-C", str(PROJECT), "cat-file", "-e", commit]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def need_history() -> None:
    """Skip the test in a clone without the history, and in CI fail."""
    if not has_history():
        miss(f"needs {HISTORY}")


def old_release(commit: str, folder: Path) -> Path:
    """Return a folder with the code of a commit, which runs with this environment's libraries.

    Put first on Python's path, its own list of commands counts, not that of the version that is installed.
    """
    packed = subprocess.run(["git", "-C", PROJECT, "archive", commit], capture_output=True, check=True).stdout
    folder.mkdir()
    subprocess.run(["tar", "-x", "-C", folder], input=packed, check=True)
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    installed = folder / f"{project['name']}-{project['version']}.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n")
    parts = [
        f"[{group}]\n" + "".join(f"{name} = {place}\n" for name, place in places.items())
        for group, places in project["entry-points"].items()
    ]
    (installed / "entry_points.txt").write_text("\n".join(parts))
    return folder


_PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"


def client(package: str, least: tuple[int, int] = (3, 11)) -> Path | None:
    """Return the Python of an environment that has a package, such as ``openadr3==0.5.0``.

    ``None``: this machine has no Python of at least that version.
    """
    folder = DOCS.parent / ".venv/clients" / package
    python, made = folder / "bin/python", folder / "made"
    if not made.exists():
        base = _python(least)
        if base is None:
            return None
        subprocess.run([base, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", package], check=True, capture_output=True)
        made.touch()
    return python


def _python(least: tuple[int, int]) -> str | None:
    named = [shutil.which(f"python{least[0]}.{minor}") for minor in range(14, least[1] - 1, -1)]
    # The names of pyenv in the PATH answer only for versions that are switched on.
    found = [sys.executable, *filter(None, named), *map(str, sorted(_PYENV.glob("*/bin/python3"), reverse=True))]
    test = f"import sys, venv; sys.exit(sys.version_info < {least})"
    return next((each for each in found if subprocess.run([each, "-c", test], check=False).returncode == 0), None)


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
