"""Read and start the units of ``deploy/``, and read the steps of docs/operations.md, for tests."""

import os
import re
import shlex
import shutil
import socket
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.docs.generate import blocks_of
from harness.docs.marked import DOCS
from harness.network.waiting import ended
from harness.real import forks
from harness.real.brokers import command as mosquitto

DEPLOY = DOCS.parent / "deploy"
SYSTEMD, PGBACKREST = DEPLOY / "systemd", DEPLOY / "pgbackrest"
PAGE = DOCS / "operations.md"

PROGRAM = "/opt/commonwatt/current/bin/commonwatt"
STATE = "/var/lib/commonwatt"
MOSQUITTO = "/usr/sbin/mosquitto"

SHELL = "/bin/sh"
FIND = "/usr/bin/find"

UNITS = {path.name: path for path in sorted(SYSTEMD.glob("commonwatt-*.service"))}
SERVICES = sorted(name for name, path in UNITS.items() if "\nType=notify\n" in path.read_text())
"""The units of services that run permanently."""

DROP_IN = SYSTEMD / "commonwatt-.service.d" / "50-common.conf"

INSTANCES = {"commonwatt-mosquitto@.service": "head-end"}
"""Instance names of templates in tests; all others are ``r001``."""


def instance_of(unit: str) -> str:
    """Return a unit's name with its instance."""
    return unit.replace("@.", f"@{INSTANCES.get(unit, 'r001')}.")


def keys(unit: str) -> dict[str, list[str]]:
    """Return the settings of a unit and of the common drop-in, by key, with the instance inserted."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for path in (UNITS[unit], DROP_IN):
        for line in path.read_text().splitlines():
            if match := re.fullmatch(r"([A-Za-z]+)=(.*)", line):
                found[match[1]].append(match[2].replace("%i", INSTANCES.get(unit, "r001")))
    return found


def commands(unit: str, program: list[str], state: Path) -> list[list[str]]:
    """Return a unit's commands, in order, with other paths for the program and the state folder."""
    own = keys(unit)
    lines = [line.replace(STATE, str(state)) for line in own["ExecStartPre"] + own["ExecStart"] + own["ExecStartPost"]]
    return [[*program, *words[1:]] if words[0] == PROGRAM else words for words in map(_words, lines)]


def _words(line: str) -> list[str]:
    words = shlex.split(line)
    return shlex.split(words[2].removeprefix("exec ")) if words[:2] == [SHELL, "-c"] else words


@contextmanager
def started(unit: str, program: list[str], state: Path) -> Iterator[socket.socket]:
    """Start a unit's command with systemd's environment; return the socket that hears its notifications.

    The program and the state folder are others than those of the unit.
    """
    own = keys(unit)
    *before, run = commands(unit, program, state)
    folder = own["WorkingDirectory"][0].replace(STATE, str(state))
    for words in before:
        subprocess.run(words, check=True, capture_output=True, timeout=60, cwd=folder)
    if run[0] == MOSQUITTO:
        run = mosquitto(Path(run[-1]))
    environment = dict(line.split("=", 1) for line in own["Environment"])
    for limit in own["WatchdogSec"]:
        environment["WATCHDOG_USEC"] = str(int(limit) * 1_000_000)
    # Not within the test's folder: a socket's path has at most 108 characters.
    with TemporaryDirectory() as short, closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as ear:
        environment["NOTIFY_SOCKET"] = f"{short}/notify"
        ear.bind(environment["NOTIFY_SOCKET"])
        ear.settimeout(60)
        process = forks.start(run, Path(os.devnull), folder=Path(folder), environment=environment)
        try:
            yield ear
        finally:
            process.terminate()
            code = ended(process, 10)
        assert code == 0, f"{unit} ended with {code}"


def root(folder: Path) -> Path:
    """Make a root folder with our units, systemd's units, and the programs of our units, for systemd's tools."""
    units = folder / "etc" / "systemd" / "system"
    shutil.copytree(SYSTEMD, units)
    shutil.copytree(PGBACKREST, units, dirs_exist_ok=True)
    shutil.copytree("/lib/systemd/system", folder / "usr" / "lib" / "systemd" / "system", symlinks=True)
    for program in (PROGRAM, MOSQUITTO, SHELL, FIND, "/usr/bin/pgbackrest"):
        path = folder / program.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    return folder


def steps(heading: str, page: Path = PAGE) -> list[str]:
    """Return the lines of the first block of commands under a heading."""
    _, _, section = page.read_text().partition(f"# {heading}")
    return next(content for kind, content in blocks_of(section) if kind == "sh").splitlines()


def words_of(line: str) -> list[str] | None:
    """Return the words after ``commonwatt`` in a line of a page, whichever way it calls the program; else ``None``."""
    match = re.match(r"(?:sudo )?(?:-u commonwatt )?(?:\S+/bin/)?commonwatt (.*)", line)
    return None if match is None else shlex.split(match[1])


def write_site(folder: Path) -> None:
    """Write the page's site file."""
    (folder / "site").mkdir()
    _, _, section = PAGE.read_text().partition("# The office")
    text = next(content for kind, content in blocks_of(section) if kind == "toml")
    (folder / "site" / "site.toml").write_text(f"{text}\n")


def office(folder: Path, program: list[str]) -> Path:
    """Run the page's command that makes every file of the town, in ``folder``; return ``site``."""
    write_site(folder)
    (line,) = (line for line in steps("The office") if line.endswith(" site init"))
    forks.run([*program, *(words_of(line) or ())], cwd=folder, check=True, timeout=60)
    return folder / "site"


def machine_root(folder: Path) -> Path:
    """Make the root folder of a machine that has the services' user already, so that no program has to make it."""
    (folder / "etc").mkdir(parents=True)
    (folder / "etc" / "passwd").write_text("commonwatt:x:990:990:Commonwatt:/var/lib/commonwatt:/usr/sbin/nologin\n")
    return folder
