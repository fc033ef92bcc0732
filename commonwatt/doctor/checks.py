"""Findings of an examination, and checks that services share: clock, disk, versions, certificates."""

import errno
import os
import platform
import shutil
import sqlite3
import ssl
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from commonwatt.model.exceptions import CommonwattError, ConfigError
from commonwatt.model.text import moment
from commonwatt.model.units import ENOUGH_BYTES, LOW_BYTES, MADE, EpochSeconds
from commonwatt.network.tls import WARN_BEFORE_S, server_context
from commonwatt.runtime.clock import read_machine, wall_clock


class Level(StrEnum):
    """Severity of a finding."""

    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"


SEVERITY = {Level.GOOD: 0, Level.WARNING: 1, Level.BAD: 2}  # order of the levels


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The result of one check."""

    check: str  # what was checked, such as ``clock`` or ``head_end``
    level: Level  # its severity
    found: str  # what was found, in words
    remedy: str = ""  # what to do; empty for a good finding. FILE in it stands for the service's file.


def with_file(finding: Finding, config: Path) -> Finding:
    """Return a finding whose remedy names the service's file."""
    return replace(finding, remedy=finding.remedy.replace("--config FILE", f"--config {config}"))


def good(check: str, found: str) -> Finding:
    """Return a finding that needs nothing."""
    return Finding(check=check, level=Level.GOOD, found=found)


def warning(check: str, found: str, remedy: str) -> Finding:
    """Return a finding that should be looked at; the service works."""
    return Finding(check=check, level=Level.WARNING, found=found, remedy=remedy)


def bad(check: str, found: str, remedy: str) -> Finding:
    """Return a finding that must be corrected."""
    return Finding(check=check, level=Level.BAD, found=found, remedy=remedy)


class Check(NamedTuple):
    """A named check; ``find`` may raise our own errors and ``OSError``."""

    name: str
    find: Callable[[], Iterable[Finding]]


def run_check(check: Check) -> Iterable[Finding]:
    """Yield the findings of a check as they come; its error becomes a bad finding."""
    try:
        yield from check.find()
    except (CommonwattError, OSError) as error:
        yield bad(check.name, str(error), "correct what this line names; then run this command again")


def worst(findings: Iterable[Finding]) -> Finding | None:
    """Return the first of the most severe findings; ``None``: all are good."""
    severest = max(findings, key=lambda finding: SEVERITY[finding.level], default=None)
    return None if severest is None or severest.level is Level.GOOD else severest


SYNCS = 5  # writes whose sync time is measured
# Median sync time from which a disk is reported as slow: every commit of a store waits for one sync or two.
SLOW_SYNC_S = 0.25

_PAGE = 4096
_LIBRARIES = ("paho-mqtt", "amqtt", "SQLAlchemy", "psycopg", "cryptography", "numpy")
_SET_NTP = "sudo apt-get install systemd-timesyncd && sudo timedatectl set-ntp true; then see: timedatectl"


def version_findings() -> Iterator[Finding]:
    """Yield the versions that a report of a fault needs."""
    versions = {"commonwatt": _version("commonwatt"), "Python": platform.python_version()}
    versions |= {"SQLite": sqlite3.sqlite_version, "OpenSSL": ssl.OPENSSL_VERSION.split()[1]}
    versions |= {name: _version(name) for name in _LIBRARIES}
    yield good("versions", ", ".join(f"{name} {number}" for name, number in versions.items() if number))


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


_DAY_S = 86_400
_EXCHANGE = "exchange it with the meter; a new one is made at the office: commonwatt enroll device {} --out site"
RENEW = "renew it at the office: commonwatt site init; then copy this machine's folder again"
_COPY = "copy this machine's folder from the office again"


def certificate_findings(key: str, path: Path | None, *, named: str = "") -> Iterator[Finding]:
    """Yield the state of a service's own certificate, or of an authority's.

    Args:
        key: The setting that names the file.
        named: The identity that the certificate must have; empty: any.
    """
    if path is None:
        return
    is_authority = key.endswith(("_ca", ".ca"))
    # Loaded only where there is a certificate: the library that reads it takes 15 MiB.
    from commonwatt.identity.certificates import details_of

    try:
        if not is_authority:
            server_context(path)  # reads certificate and key
        found = min(details_of(path.read_bytes()), key=lambda details: details.ends)
    except (ConfigError, OSError) as error:
        yield bad(key, str(error), _COPY)
        return
    if named and found.names[:1] != (named,):
        yield bad(key, f"{path}: is of {', '.join(found.names)}, but this file is of {named}", _COPY)
    else:
        renew = "make a new authority at the office: docs/security.md" if is_authority else RENEW
        renew = _EXCHANGE.format(named) if named.isdecimal() else renew  # a meter's
        yield _dates(key, found.names, found.begins, found.ends, renew)


def _dates(key: str, names: Sequence[str], begins: EpochSeconds, ends: EpochSeconds, renew: str) -> Finding:
    now = wall_clock().now()
    days = (ends - now) / _DAY_S
    of = f"of {', '.join(names)}"
    if days <= 0:
        return bad(key, f"{of}: it expired {-days:.1f} days ago, on {moment(ends)}", renew)
    if now < begins:
        text = f"{of}: by this machine's clock it is valid only from {moment(begins)}"
        return bad(key, text, "set this machine's clock; see the line `clock`")
    if ends - now < WARN_BEFORE_S:
        return warning(key, f"{of}: it expires in {days:.1f} days, on {moment(ends)}", renew)
    return good(key, f"{of}: valid for {days:.0f} more days, until {moment(ends)[:10]}")


def revocation_findings(
    key: str, path: Path | None, authority: Path | None, certificate: Path | None
) -> Iterator[Finding]:
    """Yield whether a revocation list can be used, and whether it has the service's own certificate.

    Args:
        key: The setting that names the list.
        authority: The authority whose list it must be.
    """
    if path is None or authority is None:
        return
    from commonwatt.identity.certificates import details_of, revoked_serials

    try:
        revoked = revoked_serials(path.read_bytes(), authority.read_bytes())
        own = set() if certificate is None else {found.serial for found in details_of(certificate.read_bytes())}
    except (ConfigError, OSError) as error:
        yield bad(key, f"{path}: {error}", _COPY)
        return
    if own & revoked:
        yield bad(
            key,
            "this service's own certificate is revoked",
            "ask the office why; make a new one: commonwatt enroll device; docs/security.md describes it",
        )
    else:
        yield good(key, f"{len(revoked)} revoked")
