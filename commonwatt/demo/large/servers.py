"""Servers of other makers that a large town needs: Mosquitto as its brokers, and a PostgreSQL of its own."""

import os
import resource
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from commonwatt.model.exceptions import ConfigError
from commonwatt.runtime.postgres import found, programs

FILES = 20_000  # open files of a process: the connections of a fleet of meters, and its stores


def require_servers() -> None:
    """Check that the servers are installed, and that a process may open enough files."""
    missing = {"mosquitto": found("mosquitto"), "postgresql": programs()}
    if packages := [name for name, path in missing.items() if path is None]:
        raise ConfigError(
            f"a town of so many microgrids needs {' and '.join(packages)}: sudo apt-get install {' '.join(packages)}"
        )
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < FILES:
        raise ConfigError(f"each process needs {FILES:,} open files, and may have {hard:,}: raise it, ulimit -Hn")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, FILES), hard))


def mosquitto(config: Path, devices: Iterable[Path]) -> Sequence[str]:
    """Write the files of a Mosquitto beside a broker's settings file, for several microgrids; return its command.

    Raises:
        ConfigError: The files can't be made.
    """
    out = config.with_name("mosquitto")
    command = [sys.executable, "-m", "commonwatt", "broker", "render", "mosquitto", "--config", str(config)]
    command += ["--out", str(out), *(word for path in devices for word in ("--devices", str(path)))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConfigError(f"the files of a Mosquitto could not be made: {done.stderr.strip()}")
    settings = out / "mosquitto.conf"
    if os.geteuid() == 0:
        # Otherwise it would change to a user who can't read these files.
        settings = out / "as-root"
        settings.write_text(f"user root\ninclude_dir {out.resolve()}\n")
    return [str(found("mosquitto")), "-c", str(settings)]
