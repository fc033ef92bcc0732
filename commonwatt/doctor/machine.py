"""Checks of the machine: its clock, the disk of a store, and the installed versions."""

import errno
import os
import platform
import shutil
import sqlite3
import ssl
import statistics
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from commonwatt.doctor.findings import Finding, bad, good, warning
from commonwatt.model.disk_space import ENOUGH_BYTES, LOW_BYTES
from commonwatt.model.units import MADE
from commonwatt.model.words import moment
from commonwatt.runtime.clock import read_machine, wall_clock

SYNCS = 5  # writes whose sync time is measured
# Median sync time from which a disk is reported as slow: every commit of a store waits for one sync or two.
SLOW_SYNC_S = 0.25

_PAGE = 4096
_LIBRARIES = ("paho-mqtt", "amqtt", "SQLAlchemy", "psycopg", "cryptography", "numpy")
_SET_NTP = "sudo apt-get install systemd-timesyncd && sudo timedatectl set-ntp true; then see: timedatectl"


def version_findings() -> Iterator[Finding]:
    """Yield the versions that a report of a fault needs."""
    found = {"commonwatt": _version("commonwatt"), "Python": platform.python_version()}
    found |= {"SQLite": sqlite3.sqlite_version, "OpenSSL": ssl.OPENSSL_VERSION.split()[1]}
    found |= {name: _version(name) for name in _LIBRARIES}
    yield good("versions", ", ".join(f"{name} {number}" for name, number in found.items() if number))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def clock_findings(clock_file: Path | None, *, gives_time: bool = False, is_right: bool = False) -> Iterator[Finding]:
    """Yield the state of this machine's clock.

    Args:
        clock_file: The clock file of a demonstration, which replaces the machine's clock.
        gives_time: Whether other machines take their time from this one.
        is_right: Whether the settings state that another program than NTP sets the clock.
    """
    now = int(wall_clock().now())
    if clock_file is not None:
        yield good("clock", f"a demonstration's clock is used: {clock_file}")
    elif now < MADE:
        yield bad(
            "clock",
            f"this machine's clock shows {moment(now)}, which is before this release was made",
            f"set it: {_SET_NTP}",
        )
    elif read_machine(wall_clock()).synchronised or is_right:
        yield good("clock", f"{moment(now)}, synchronised{' (stated in the file)' if is_right else ' by NTP'}")
    elif gives_time:
        yield bad(
            "clock",
            f"{moment(now)}; NTP does not synchronise it, so gateways do not use this machine's time",
            f"start NTP: {_SET_NTP}; if another program synchronises it, set clock_is_right = true",
        )
    else:
        yield warning("clock", f"{moment(now)}; NTP does not synchronise it", f"start NTP: {_SET_NTP}")


def disk_findings(store: Path) -> Iterator[Finding]:
    """Yield the free space, and the sync time measured with a small file, in the folder of a store."""
    folder = store.absolute().parent
    try:
        free = shutil.disk_usage(folder).free
        times_s = _sync_times_s(folder)
    except OSError as error:
        yield bad("disk", f"{folder}: a file can't be written: {error.strerror}", _remedy(error, folder))
        return
    space = f"{folder}: {free / 1e9:.1f} GB free" if free >= 1e8 else f"{folder}: {free / 1e6:.1f} MB free"
    if free < LOW_BYTES:
        yield bad("disk", f"{space}: too little, readings are refused", _make_space(folder))
    elif free < ENOUGH_BYTES:
        yield warning("disk", f"{space}: readings are refused soon", _make_space(folder))
    else:
        yield good("disk", space)
    median_s = statistics.median(times_s)
    measured = f"{median_s * 1000:.1f} ms to write and sync 4 KiB, longest {max(times_s) * 1000:.1f} ms"
    if median_s > SLOW_SYNC_S:
        yield warning(
            "disk sync",
            f"{measured}: slow",
            "find what else writes: sudo iotop -o; replace a worn SD card by one for continuous writing",
        )
    else:
        yield good("disk sync", measured)


def _sync_times_s(folder: Path) -> list[float]:
    times_s = []
    with tempfile.TemporaryFile(dir=folder, prefix=".doctor-", buffering=0) as file:
        for _ in range(SYNCS):
            began = time.monotonic()
            file.write(bytes(_PAGE))
            os.fsync(file.fileno())
            times_s.append(time.monotonic() - began)
    return times_s


def _remedy(error: OSError, folder: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _make_space(folder)
    if error.errno == errno.EROFS:
        return "see why it is read-only: dmesg | tail; replace a failing disk, or mount it again with writing"
    if error.errno == errno.ENOENT:
        return "correct the path of the store in the file, or make the folder"
    return f"give it to the service's user: sudo chown -R commonwatt:commonwatt {folder}"


def _make_space(folder: Path) -> str:
    return f"free space on that disk; see what fills it: sudo du -xh --max-depth=2 {folder} | sort -h | tail"
