"""Wheels of the project and its dependencies, for a processor that need not be this machine's."""

import shutil
import subprocess
import tomllib
import venv
import zipfile
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]

HOME = "usr/lib/commonwatt"  # the environment's folder in a package
SITE_PACKAGES = f"{HOME}/lib/python3/site-packages"

PYTHONS = ("3.11", "3.13")  # those of Debian 12 and 13; a package has the compiled libraries of both
# Debian's name of each processor that packages are made for, and the name in wheels.
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
# Platforms of wheels that run on Debian 12, which has glibc 2.36, and later.
_PLATFORMS = ("manylinux_2_36", "manylinux_2_28", "manylinux_2_26", "manylinux_2_17", "manylinux2014")
# Where files of a wheel's data scheme go; programs and C headers go nowhere, since only ``commonwatt`` is started.
_SCHEMES = {"data": HOME, "platlib": SITE_PACKAGES, "purelib": SITE_PACKAGES}
# Files that say how a wheel was built, and differ between those of two Pythons; the first one's stay.
_OF_A_BUILD = ("*.dist-info/*", "numpy/__config__.py")


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
        folder: Gets a folder for each Python.
    """
    for python in PYTHONS:
        _fetch(pip, own, extras, architecture, python, folder / python)
    return sorted(folder.glob("*/*.whl"))


def _fetch(pip: Sequence[str], own: Path, extras: str, architecture: str, python: str, folder: Path) -> None:
    platforms = [word for name in _PLATFORMS for word in ("--platform", f"{name}_{MACHINES[architecture]}")]
    wanted = ["--only-binary=:all:", "--implementation=cp", f"--python-version={python}", *platforms]
    pinned = ["--constraint", str(PROJECT / "constraints.txt"), f"{own}[{extras}]"]
    subprocess.run([*pip, "download", "--quiet", *wanted, "--dest", str(folder), *pinned], check=True)


def unpack(wheels: Sequence[Path], root: Path) -> None:
    """Unpack wheels below ``root`` as an installation does, without programs: only ``commonwatt`` is started.

    The wheels of two Pythons share a folder: names of compiled libraries have the Python, all else is the same.

    Raises:
        ValueError: Two wheels have a file of one name with different contents.
    """
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                path = _place(name)
                if path is None or name.endswith("/"):
                    continue
                target, data = root / path, archive.read(name)
                if not target.exists():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(data)
                elif target.read_bytes() != data and not any(fnmatch(name, each) for each in _OF_A_BUILD):
                    raise ValueError(f"{wheel.name}: its {name} differs from that of another wheel")


def _place(name: str) -> str | None:
    """Return where a file of a wheel goes, below the package's root; ``None``: nowhere."""
    top, _, rest = name.partition("/")
    if not top.endswith(".data"):
        return f"{SITE_PACKAGES}/{name}"
    scheme, _, rest = rest.partition("/")
    return f"{_SCHEMES[scheme]}/{rest}" if scheme in _SCHEMES else None
