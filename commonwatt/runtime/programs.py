"""Programs of this machine that are not Python's."""

import shutil
from pathlib import Path


def found(name: str) -> Path | None:
    """Return the path of a program, also of one that only root has on its path; ``None``: it is not installed."""
    path = shutil.which(name) or shutil.which(name, path="/usr/local/sbin:/usr/sbin:/sbin")
    return None if path is None else Path(path)
