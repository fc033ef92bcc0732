"""The code of an earlier release, from the history of this repository."""

import subprocess
import tomllib
from pathlib import Path

from deploy.debian.wheels import PROJECT
from harness.real.parts import miss

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
