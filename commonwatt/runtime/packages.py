"""Reads Debian packages by ``dpkg-deb``."""

import subprocess
from pathlib import Path

from commonwatt.model.exceptions import ConfigError


def fields_of(package: Path) -> list[str]:
    """Return the name, version and architecture of a package.

    Raises:
        ConfigError: It is none, or ``dpkg-deb`` is not installed.
    """
    found = dpkg_deb("--show", "--showformat=${Package} ${Version} ${Architecture}", package).decode().split()
    if len(found) != 3:
        raise ConfigError(f"{package}: has no name, version and architecture")
    return found


def dpkg_deb(*words: str | Path) -> bytes:
    """Return what ``dpkg-deb`` says; the last word is the package.

    Raises:
        ConfigError: It is none, or ``dpkg-deb`` is not installed.
    """
    try:
        return subprocess.run(["dpkg-deb", *words], capture_output=True, check=True).stdout
    except OSError as error:
        raise ConfigError(f"dpkg-deb is not here ({error}): packages are for Debian") from error
    except subprocess.CalledProcessError as error:
        raise ConfigError(f"{words[-1]}: is no package, or is damaged; copy it again") from error
