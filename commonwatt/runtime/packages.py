"""Reads Debian packages by ``dpkg-deb``."""

import subprocess
from pathlib import Path

from commonwatt.model.exceptions import ConfigError


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
