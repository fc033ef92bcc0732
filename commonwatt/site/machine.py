"""The machine on which a bundle is unpacked: its root folder, the services' user, units, links, packages."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from commonwatt.model.exceptions import CommonwattError, ConfigError
from commonwatt.runtime.files import replace_file

STATE = "/var/lib/commonwatt"
PROGRAM = "/opt/commonwatt/current/bin/commonwatt"
USER = "commonwatt"
AUTHORITY = "/etc/commonwatt/authority.pem"
"""Root's copy of the town's authority, which the services' user can't replace: releases are checked by it."""

_DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
"""Beside the packages, in the project's folder and where it is installed."""

_UNITS = "/etc/systemd/system"
_PACKAGED_UNITS = "/usr/lib/systemd/system"
_SYSUSERS = "/etc/sysusers.d/commonwatt.conf"
_BOOTED = Path("/run/systemd/system")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A machine, or a folder that holds its files."""

    root: Path  # its root folder
    runs: bool  # whether systemd runs it, so that services can be started

    @classmethod
    def at(cls, root: Path) -> "Machine":
        """Return this machine, or the machine with its files in the folder ``root``.

        Raises:
            ConfigError: The folder does not exist, or only root may change this machine.
        """
        if not root.is_dir():
            raise ConfigError(f"{root}: no such folder")
        machine = cls(root=root, runs=root.resolve() == Path("/") and _BOOTED.is_dir())
        if machine.is_own and os.geteuid() != 0:
            raise ConfigError("only root can do this; type sudo before the command")
        return machine

    def path(self, name: str) -> Path:
        """Return the place of an absolute path of the machine."""
        return self.root / name.lstrip("/")

    @property
    def is_own(self) -> bool:
        """Whether it is the machine on which this runs."""
        return self.root.resolve() == Path("/")

    @property
    def state(self) -> Path:
        """The folder of the services' data."""
        return self.path(STATE)

    def run(self, command: list[str]) -> None:
        """Run a command.

        Raises:
            CommonwattError: It failed.
        """
        try:
            subprocess.run(command, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise CommonwattError(f"failed: {' '.join(command)} ({error}); unpack again after the repair") from error

    def install_program(self) -> None:
        """Let the units and the shell find the program that runs now, if it is below /opt/commonwatt."""
        home = Path(sys.prefix).resolve()
        current = Path(PROGRAM).parents[1]
        if home.parent == current.parent and home != current:
            _link(self.path(str(current)), home.name)
            _link(self.path("/usr/local/bin/commonwatt"), PROGRAM)

    def check_program(self) -> None:
        """Check that the units will find the program."""
        home = Path(sys.prefix).resolve()
        if home.parent != Path(PROGRAM).parents[2] and not self.path(PROGRAM).exists():
            raise ConfigError(
                f"the units start {PROGRAM}, which is not there; install the program in {Path(PROGRAM).parents[2]}"
                " (docs/operations.md)"
            )

    def install_units(self) -> bool:
        """Install the units, unless a package of the system brought them; return whether a unit changed."""
        if self.path(f"{_PACKAGED_UNITS}/commonwatt-gateway@.service").exists():
            return False
        files = [path for path in sorted((_DEPLOY / "systemd").rglob("*")) if path.is_file()]
        changes = [self._copy(path, f"{_UNITS}/{path.relative_to(_DEPLOY / 'systemd')}") for path in files]
        return any(changes)

    def install_authority(self, certificate: bytes) -> None:
        """Give root a copy of the town's authority (PEM)."""
        path = self.path(AUTHORITY)
        _public(path.parent)
        replace_file(path, certificate, mode=0o644)

    def owner(self) -> tuple[int, int] | None:
        """Return the numbers of the services' user and group, made when missing; ``None``: this is not run by root.

        Raises:
            CommonwattError: The user could not be made.
        """
        if os.geteuid() != 0:
            return None
        if (found := self._user()) is None:
            self._copy(_DEPLOY / "sysusers" / "commonwatt.conf", _SYSUSERS)
            self.run(["systemd-sysusers", f"--root={self.root.resolve()}", "commonwatt.conf"])
            found = self._user()
        if found is None:
            raise CommonwattError(f"there is no user {USER}, and systemd-sysusers did not make it")
        return found

    def _user(self) -> tuple[int, int] | None:
        passwd = self.path("/etc/passwd")
        lines = passwd.read_text().splitlines() if passwd.exists() else []
        found = next((line.split(":") for line in lines if line.startswith(f"{USER}:")), None)
        return None if found is None else (int(found[2]), int(found[3]))

    @contextmanager
    def folder(self, path: Path, owner: tuple[int, int] | None) -> Iterator[Path]:
        """Make a folder that only the services' user can read; give a path to it by its handle.

        That user may at any moment put a link in place of a folder in its own folder; root must not follow it.

        Raises:
            ConfigError: Something else has its name, such as a link.
        """
        _public(path.parent)
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        try:
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except NotADirectoryError as error:
            raise ConfigError(f"{path}: is no folder; remove it") from error
        try:
            os.fchmod(handle, 0o700)
            if owner is not None:
                os.fchown(handle, *owner)
            yield Path(f"/proc/self/fd/{handle}")
        finally:
            os.close(handle)

    def _copy(self, source: Path, name: str) -> bool:
        """Install a file of the project that everybody may read; return whether it changed."""
        path, content = self.path(name), source.read_bytes()
        if path.exists() and path.read_bytes() == content:
            return False
        _public(path.parent)
        replace_file(path, content, mode=0o644)
        return True


def missing_program(name: str) -> bool:
    """Return whether a program is not installed on this machine."""
    return shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin") is None


def _public(folder: Path) -> None:
    """Make folders that everybody may read."""
    for path in (*reversed(folder.parents), folder):
        if not path.exists():
            path.mkdir()
            path.chmod(0o755)


def _link(path: Path, target: str) -> None:
    """Let a link lead to ``target``, in one step."""
    if path.is_symlink() and path.readlink() == Path(target):
        return
    _public(path.parent)
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    beside.symlink_to(target)
    beside.replace(path)


def fields_of(package: Path) -> list[str]:
    """Return the name, version and architecture of a package.

    Raises:
        ConfigError: It is none, or ``dpkg-deb`` is not installed.
    """
    words = ["dpkg-deb", "--show", "--showformat=${Package} ${Version} ${Architecture}", str(package)]
    try:
        found = subprocess.run(words, capture_output=True, check=True, text=True).stdout.split()
    except OSError as error:
        raise ConfigError(f"dpkg-deb is not here ({error}): packages are for Debian") from error
    except subprocess.CalledProcessError as error:
        raise ConfigError(f"{package}: is no package, or is damaged; copy it again") from error
    if len(found) != 3:
        raise ConfigError(f"{package}: has no name, version and architecture")
    return found
