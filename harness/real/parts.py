"""Real parts that some tests run beside ours: where they are, and what to install where one is missing."""

import os
import shutil
from pathlib import Path

import pytest

PARTS = {
    "mosquitto": ("mosquitto", ("/usr/sbin",)),
    "mosquitto_passwd": ("mosquitto", ()),
    "faketime": ("faketime", ()),
    "npm": ("nodejs npm", ()),
    "prometheus": ("prometheus", ()),
    "promtool": ("prometheus", ()),
    "systemd-analyze": ("systemd", ()),
    "cc": ("gcc libc6-dev", ()),
    "initdb": (
        "postgresql",
        ("/usr/lib/postgresql/15/bin", "/usr/lib/postgresql/16/bin", "/usr/lib/postgresql/17/bin"),
    ),
}
"""By program: the Debian packages that bring it, and where it may be besides the PATH."""


def real_part(program: str) -> Path:
    """Return where ``program`` is; without it skip the test, saying what to install, and in CI fail."""
    package, folders = PARTS[program]
    found = shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", os.defpath), *folders]))
    if found is not None:
        return Path(found)
    missing = f"needs {program}: apt-get install {package}"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)


def need_root(what: str) -> None:
    """Go on as root; else skip the test, saying what for, and in CI fail."""
    if os.geteuid() == 0:
        return
    missing = f"needs to be root: {what}"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)
