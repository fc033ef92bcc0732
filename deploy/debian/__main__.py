"""``make deb``: the packages for each processor, into ``dist``; it needs the network for wheels, and no root."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from deploy.debian.package import CONTROLLER, UTILITY, Package, Release, build, finish_tree, version
from deploy.debian.wheels import MACHINES, PROJECT, build_own, fetch, make_pip, unpack


def main() -> None:
    """Make both packages for each processor."""
    if shutil.which("dpkg-deb") is None:
        sys.exit("needs dpkg-deb: apt-get install dpkg")
    dist, epoch = PROJECT / "dist", _epoch()
    dist.mkdir(exist_ok=True)
    os.umask(0o022)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print("building the project's wheel", flush=True)
        pip = make_pip(folder / "pip")
        own = build_own(pip, folder)
        wanted = [(package, architecture) for package in (CONTROLLER, UTILITY) for architecture in MACHINES]
        for number, (package, architecture) in enumerate(wanted, 1):
            step = f"{number} of {len(wanted)}, {package.name} for {architecture}"
            work = folder / f"{package.name}-{architecture}"
            print(f"{step}: fetching wheels", flush=True)
            make_root(package, pip, own, architecture, work, epoch)
            release = Release(version=version(), architecture=architecture, epoch=epoch)
            print(f"{step}: compressing", flush=True)
            path = build(package, release, work / "root", dist)
            print(f"{path.relative_to(PROJECT)}: {path.stat().st_size / 1e6:.1f} MB", flush=True)
            shutil.rmtree(work)


def make_root(package: Package, pip: Sequence[str], own: Path, architecture: str, work: Path, epoch: int) -> None:
    """Make the tree of a package of pinned wheels in ``work / "root"``."""
    unpack(fetch(pip, own, package.extras, architecture, work / "wheels"), work / "root")
    finish_tree(package, work / "root", epoch)


def _epoch() -> int:
    """Return the time of all files: ``SOURCE_DATE_EPOCH``, or the time of the last commit."""
    if stated := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(stated)
    command = ["git", "-C", str(PROJECT), "log", "-1", "--format=%ct"]
    try:
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    except (OSError, subprocess.CalledProcessError):
        sys.exit("the project's folder has no git history: set SOURCE_DATE_EPOCH, such as to `date +%s`")


if __name__ == "__main__":
    main()
