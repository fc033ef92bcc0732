"""Programs of others from PyPI that run in an environment of their own, made once under ``.venv/clients``."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from harness.docs.marked import DOCS

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
