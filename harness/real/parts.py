"""External programs that some tests run: their paths, packages to install, and a clock that a test sets."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest

PARTS = {
    "mosquitto": ("mosquitto", ("/usr/sbin",)),
    "mosquitto_passwd": ("mosquitto", ()),
    "faketime": ("faketime", ()),
    "npm": ("nodejs npm", ()),
    "prometheus": ("prometheus", ()),
    "promtool": ("prometheus", ()),
    "amtool": ("prometheus-alertmanager", ()),
    "systemd-analyze": ("systemd", ()),
    "systemd-sysusers": ("systemd", ()),
    "dpkg-deb": ("dpkg", ()),
    "/usr/bin/python3": ("python3", ()),
    "mmdebstrap": ("mmdebstrap debian-archive-keyring", ()),
    "cc": ("gcc libc6-dev", ()),
    "ip": ("iproute2", ("/usr/sbin", "/sbin")),
    "unshare": ("util-linux", ()),
    "nsenter": ("util-linux", ()),
    "chromium": ("chromium", ()),
    "pgbackrest": ("pgbackrest", ()),
    "patroni": ("patroni python3-idna", ()),
    "etcd": ("etcd-server", ()),
    "etcdctl": ("etcd-client", ()),
    "initdb": (
        "postgresql",
        ("/usr/lib/postgresql/15/bin", "/usr/lib/postgresql/16/bin", "/usr/lib/postgresql/17/bin"),
    ),
}
"""By program: its Debian packages, and its folders outside the PATH."""


are_allowed = True  # whether the present test may use them: those of ``make test`` need nothing but Python


def real_part(program: str) -> Path:
    """Return the path of ``program``; without it skip the test with the packages to install, and in CI fail."""
    if not are_allowed:
        pytest.fail(f"this test needs {program}: mark it with @pytest.mark.real")
    found = path_of(program)
    if found is None:
        miss(f"needs {program}: apt-get install {PARTS[program][0]}")
    return Path(found)


def path_of(program: str) -> str | None:
    """Return the path of one of ``PARTS``; ``None``: it is not installed."""
    _, folders = PARTS[program]
    return shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", os.defpath), *folders]))


def need_root(what: str) -> None:
    """Skip the test unless it runs as root, with the reason; in CI fail."""
    if os.geteuid() == 0:
        return
    miss(f"needs to be root: {what}")


def miss(what: str) -> NoReturn:
    """Skip the test, since this machine lacks something; in CI fail."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


class FakeClock:
    """A faked machine clock for a process; monotonic clocks are real.

    Args:
        folder: The folder of its file.
        name: The name of the process.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._file = folder / f"{name}.clock"
        self.set(0)
        found = subprocess.run(
            [str(real_part("faketime")), "-m", "-f", "+0", "printenv", "LD_PRELOAD"], capture_output=True, text=True
        )
        # What the process needs in its environment.
        self.environment = {
            "LD_PRELOAD": found.stdout.strip(),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, ahead_s: float) -> None:
        """Set its error relative to the right time from now on."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{ahead_s:+.0f}\n")
        new.replace(self._file)
