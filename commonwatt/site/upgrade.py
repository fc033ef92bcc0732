"""Upgrade of a machine by a package: what is checked before, the commands, and when its service works after it."""

import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from commonwatt.config.files import read_toml
from commonwatt.model.exceptions import CommonwattError, ConfigError
from commonwatt.protocol.topics import UTILITY
from commonwatt.site.machine import PROGRAM, STATE, USER, Machine, fields_of
from commonwatt.site.places import is_on_sqlite
from commonwatt.site.unpack import installed_on

UNPACKED_TIMES = 6  # how many times a package's size its files take, with those of the version that they replace
WAIT_S = 1_800.0  # most seconds of waiting for a utility's service
LOOK_S = 5.0  # seconds between two looks at the service


@dataclass(frozen=True, kw_only=True)
class Upgrade:
    """A checked package for a machine."""

    place: str  # a microgrid's id, or ``utility``
    before: str  # the version that unpacked the machine's bundle
    version: str  # the package's version
    package: Path  # its file
    backup: str | None  # the unit that makes a backup of the utility's database; ``None``: it is a controller

    @property
    def config(self) -> str:
        """The settings file of the machine's main service."""
        return f"{STATE}/{self.place}/{UTILITY if self.place == UTILITY else 'gateway'}.toml"

    def commands(self) -> Iterator[list[str]]:
        """Yield the commands; the package restarts what runs."""
        if self.backup is not None:
            yield ["systemctl", "start", self.backup]
        yield ["apt-get", "install", "--yes", str(self.package.absolute())]


def prepare(machine: Machine, package: Path) -> Upgrade:
    """Check that a package may be installed on a machine; nothing is changed.

    Raises:
        ConfigError: Nothing was unpacked there, the file is no package for this machine, the disk is too full, or no
            backup can be made.
    """
    installed = installed_on(machine)
    if installed is None:
        raise ConfigError(f"{machine.state}: no bundle was unpacked there; see docs/guides/upgrade.md, by hand")
    place = installed.manifest.place
    name, version, _ = fields_of(package)
    wanted = "commonwatt-utility" if place == UTILITY else "commonwatt-controller"
    if name != wanted:
        raise ConfigError(f"{package}: is {name}, but the machine of {place} needs {wanted}")
    free, needed = shutil.disk_usage(machine.state).free, UNPACKED_TIMES * package.stat().st_size
    if free < needed:
        raise ConfigError(f"{machine.state}: {free:,} bytes are free, {needed:,} are needed; nothing was changed")
    backup = _backup(machine) if place == UTILITY else None
    return Upgrade(place=place, before=installed.program, version=version, package=package, backup=backup)


def _backup(machine: Machine) -> str:
    """Return the unit that makes a backup of the utility's database."""
    if is_on_sqlite(read_toml(machine.state / UTILITY / "utility.toml")):
        return "commonwatt-backup.service"
    if not machine.path("/etc/systemd/system/pgbackrest-commonwatt@.service").exists():
        raise ConfigError(
            "no backup of the database can be made: set up pgBackRest first, see docs/stores.md; nothing was changed"
        )
    return "pgbackrest-commonwatt@incr.service"


def state_of(said: str) -> tuple[str, bool]:
    """Return the verdict in what ``commonwatt status`` said, and whether the service works."""
    verdict = said.partition("\n")[0].removeprefix("verdict: ") or "it does not answer yet"
    return verdict, verdict.startswith("working")


def wait(ask: Callable[[], str], say: Callable[[str], None], look_s: float = LOOK_S) -> None:
    """Wait until the utility's service works; say what changed.

    Args:
        ask: Returns what ``commonwatt status`` says; empty: no answer.
        say: Takes lines for the technician.
        look_s: Seconds between two looks.

    Raises:
        CommonwattError: It does not within ``WAIT_S``.
    """
    before, never = "", threading.Event()
    for _ in range(int(WAIT_S / LOOK_S)):
        told, works = state_of(ask())
        if told != before:
            say(f"  {told}")
        if works:
            return
        before = told
        never.wait(look_s)
    raise CommonwattError(
        f"not within {WAIT_S / 60:.0f} min: {before}. Data waits, nothing is lost. Find the cause: commonwatt doctor; "
        "the way back is in docs/guides/upgrade.md"
    )


def status(upgrade: Upgrade) -> str:
    """Return what the installed program says about the main service; empty: it does not answer."""
    words = ["runuser", "-u", USER, "--", PROGRAM, "status", "--config", upgrade.config]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout
