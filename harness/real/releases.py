"""The code of an earlier release, from the history of this repository."""

import subprocess
import tomllib
from pathlib import Path

from deploy.debian.wheels import PROJECT

RELEASE_0_2 = "20cb79b"  # the commit of release 0.2 (CHANGELOG.md)
BEFORE_TAKEOVER = "40d4ecc4"  # the commit before the first one that knows of takeover


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
