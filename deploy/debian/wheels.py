"""Wheels of the project and its dependencies, for a processor that need not be this machine's."""

import shutil
import subprocess
import tomllib
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]

PYTHON = "3.11"  # Debian 12's Python; compiled modules fit no other
# Debian's name of each processor that packages are made for, and the name in wheels.
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
# Platforms of wheels that run on Debian 12, which has glibc 2.36.
_PLATFORMS = ("manylinux_2_36", "manylinux_2_28", "manylinux_2_26", "manylinux_2_17", "manylinux2014")


def project_table() -> dict[str, Any]:
    """Return pyproject.toml."""
    return tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))


def make_pip(folder: Path) -> list[str]:
    """Make an environment that has pip; return the command."""
    venv.create(folder, with_pip=True)
    return [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]


def build_own(pip: Sequence[str], folder: Path) -> Path:
    """Build the project's wheel in ``folder``; return its path.

    It is built from a copy: an earlier build's files in the project's folder would come into the wheel.
    """
    source = folder / "source"
    copy_own(source)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, source)
    subprocess.run([*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, source], check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def copy_own(folder: Path) -> None:
    """Copy the project's packages into ``folder``."""
    for pattern in project_table()["tool"]["setuptools"]["packages"]["find"]["include"]:
        name = pattern.rstrip("*")
        shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "debian"))


def fetch(pip: Sequence[str], own: Path, extras: str, architecture: str, folder: Path) -> list[Path]:
    """Fetch the pinned wheels of some extras for a processor; return their paths, the project's own included.

    Args:
        own: The project's wheel.
        extras: Extras, separated by commas.
        architecture: Debian's name of the processor.
    """
    platforms = [word for name in _PLATFORMS for word in ("--platform", f"{name}_{MACHINES[architecture]}")]
    wanted = ["--only-binary=:all:", "--implementation=cp", f"--python-version={PYTHON}", *platforms]
    pinned = ["--constraint", str(PROJECT / "constraints.txt"), f"{own}[{extras}]"]
    subprocess.run([*pip, "download", "--quiet", *wanted, "--dest", str(folder), *pinned], check=True)
    return sorted(folder.glob("*.whl"))


def unpack(wheels: Sequence[Path], site_packages: Path) -> None:
    """Unpack wheels as an installation does, without scripts: only ``commonwatt`` is started.

    Raises:
        ValueError: A wheel has files that do not belong into ``site-packages``.
    """
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
            if others := [name for name in names if name.partition("/")[0].endswith(".data")]:
                raise ValueError(f"{wheel.name}: has {others[0]}, which a package does not install")
            archive.extractall(site_packages)
