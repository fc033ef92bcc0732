"""External programs that some tests run: their paths, and the packages to install."""

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
    "prometheus-alertmanager": ("prometheus-alertmanager", ()),
    "amtool": ("prometheus-alertmanager", ()),
    "systemd-analyze": ("systemd", ()),
    "systemd-sysusers": ("systemd", ()),
    "dpkg-deb": ("dpkg", ()),
    "/usr/bin/python3.11": ("python3.11", ()),
    "cc": ("gcc libc6-dev", ()),
    "chromium": ("chromium", ()),
    "initdb": (
        "postgresql",
        ("/usr/lib/postgresql/15/bin", "/usr/lib/postgresql/16/bin", "/usr/lib/postgresql/17/bin"),
    ),
}
"""By program: its Debian packages, and its folders outside the PATH."""


def real_part(program: str) -> Path:
    """Return the path of ``program``; without it skip the test with the packages to install, and in CI fail."""
    package, folders = PARTS[program]
    found = shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", os.defpath), *folders]))
    if found is not None:
        return Path(found)
    missing = f"needs {program}: apt-get install {package}"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)


def need_root(what: str) -> None:
    """Skip the test unless it runs as root, with the reason; in CI fail."""
    if os.geteuid() == 0:
        return
    missing = f"needs to be root: {what}"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)
